"""Under which settings of JAX and LAPACK numbers are made; threads, types and ranks of arrays, devices; knows no model.

Bottom up: lapack, settings, threads, precision, devices.
"""
