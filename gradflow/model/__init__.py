"""The model floor, bottom up: init, equation, accounts, functions, layers, lanes, wiring, placement, stack, names."""
