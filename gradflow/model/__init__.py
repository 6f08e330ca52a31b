"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, rotary, branches, latent, experts, lanes,
dynamic, wiring, scalings, placement, multilane, catalogue, ends, stack, encoder_decoder, profile, contracts,
batch, names, weights, zoo.
"""
