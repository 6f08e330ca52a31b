"""The settings of JAX under which numbers are made, the types and ranks of arrays, and the devices they lie on; knows no model.

Bottom up: settings, precision, devices.
"""
