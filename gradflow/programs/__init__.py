"""Any JAX program: its residual stream is found in the program itself, and metered without an edit.

May import what is below training: results, laws, model, instruments. Bottom up: trace, trunk, modules, metered, program, labels,
jacobians, readings, measurement, sweep, diagnosis.
"""
