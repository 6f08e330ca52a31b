"""Any JAX program: its residual stream is found in the program itself, and metered without an edit.

May import what is below training: results, laws, model, instruments. Bottom up: source, graph, sums, trunk, evaluation,
positions, layer_names, parameters, coordinates, metered, labels, modules, program, measurement, sweep.
"""
