"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, branches, lanes, dynamic, wiring, scalings,
placement, multilane, catalogue, stack, profile, names.
"""
