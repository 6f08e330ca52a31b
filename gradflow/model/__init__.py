"""The model floor, bottom up: init, equation, accounts, functions, layers, norms, rotary, branches, latent, experts, lanes,
dynamic, wiring, scalings, placement, multilane, catalogue, ends, stack, encoder_decoder, contracts, batch,
profile, names, weights, zoo.
"""
