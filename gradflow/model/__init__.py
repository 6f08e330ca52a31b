"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, lanes, wiring, placement, stack, names."""
