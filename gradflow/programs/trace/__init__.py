"""A traced program: the graph of its values, the lines that make them, residual sums, and itself run again with taps.

Knows JAX alone. Bottom up: source, graph, sums, schedule, evaluation, stacking, pieces.
"""
