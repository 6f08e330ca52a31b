"""What is measured: one equation for every residual sublayer, its parts, wirings of them, and stacks; knows no instrument.

Bottom up: contracts, numerics, parameters, inputs, equation, layers, branches, wirings, stacks, zoo.
"""
