"""Any JAX program: its residual stream is found in the program itself, and metered without an edit.

<<<<<<< HEAD
May import what is below training: results, laws, model, instruments. Bottom up: source, graph, sums, layout, trunk,
evaluation, positions, parameters, coordinates, modules, metered, program, labels, pieces, examples, sublayers, held, steps,
measurement, sweep, diagnosis.
=======
May import what is below training: results, laws, model, instruments. Bottom up: source, graph, sums, trunk, evaluation,
positions, parameters, metered, modules, pieces, sublayers, examples, layout, held, steps, measurement.
>>>>>>> ee37e7753c171a1e8278f0c71abad95634d88ad3
"""
