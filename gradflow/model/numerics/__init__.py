"""The settings of JAX under which numbers are made, threads, the types and ranks of arrays, and devices; knows no model.

Bottom up: settings, threads, precision, devices.
"""
