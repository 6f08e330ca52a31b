"""Published figures and tables of norm placement and depth, made again from the public instruments.

Each is an `Entry`: its source, its setting and ours, what was published, and a function that measures it. `gf.reproduce` makes
one, `gf.reproductions` lists all. Bottom up: entry, rows, stacks, gradients, streams, depths, updates, tokens, partial_jacobians,
lanes, rates, registry.
"""
