"""Jacobians of sublayers and of whole stacks, and their spectra, bottom up: jacobians, spaces, operators, functionals,
matrices, triangular, krylov, spectrum, chain.
"""
