"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, rotary, branches, lanes, wiring, scalings,
placement, multilane, catalogue, ends, stack, profile, names, zoo.
"""
