"""The model floor, bottom up: equation, init, functions, layers, wiring, stack."""
