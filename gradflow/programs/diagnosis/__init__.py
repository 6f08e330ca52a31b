"""The diagnosis of a program: which instance of equation (1) each of its residual sublayers is, and what is wrong with it.

Bottom up: compiled, values, norms, passages, attention, coupling, unrolled, sublayers, places, path, identity, expected, case,
mistakes, comparison, verdict, diagnose.
"""
