"""Wirings of a sublayer, and placements of wirings in a stack, by their names and papers; knows layers, and no branch.

Bottom up: wiring, placement, residual_scaling, gated, history, multi_lane, carried,
manifold, catalogue.
"""
