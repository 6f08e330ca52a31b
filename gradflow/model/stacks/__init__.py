"""Stacks of sublayers, and the models around one, from tokens to logits; knows all rooms below.

Bottom up: embedding_readout, stack, transformer, encoder_decoder, admin_profiling.
"""
