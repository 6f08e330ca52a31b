"""The settings of JAX under which numbers are made, and the types and ranks of arrays; knows no model.

Bottom up: settings, precision.
"""
