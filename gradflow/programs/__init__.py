"""Any JAX program: its residual stream is found in the program itself, and metered without an edit.

May import what is below training: results, laws, model, instruments. Bottom up: source, graph, sums, layout, trunk,
evaluation, positions, parameters, coordinates, modules, metered, program, labels, pieces, examples, sublayers, held, steps,
measurement, sweep, diagnosis.
"""
