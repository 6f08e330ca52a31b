"""Parameters: the keys they are drawn from, numbers that depend on the depth, initializers, and their names in results.

Bottom up: names, keys, depth, initializers.
"""
