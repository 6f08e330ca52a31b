"""The model floor, bottom up: equation, accounts, init, functions, layers, wiring, stack, names."""
