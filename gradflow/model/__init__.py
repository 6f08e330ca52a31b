"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, rotary, branches, experts, lanes, wiring,
scalings, placement, multilane, catalogue, stack, profile, names.
"""
