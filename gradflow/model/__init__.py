"""The model floor, bottom up: settings, contracts, precision, size, init, equation, accounts, functions, layers, norms, rotary,
branches, latent, experts, lanes, dynamic, wiring, scalings, placement, multilane, catalogue, ends, stack, encoder_decoder, batch,
profile, names, weights, zoo.
"""
