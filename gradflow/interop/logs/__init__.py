"""Records that other tools wrote: rows, the numbers in them, which are norms of what, layer by layer, and whether they add up.

Bottom up: cells, rows, paths, writers, columns, wholes, norms, totals.
"""
