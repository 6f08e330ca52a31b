"""A program's sublayers as functions of one array, and so as a model that instruments of Jacobians take.

May import `trace`, `trunk` and `metered`. Bottom up: layout, examples, sublayers, held, steps.
"""
