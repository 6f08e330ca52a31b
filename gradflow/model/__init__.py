"""The model floor, bottom up: equation, init, layers, wiring, stack."""
