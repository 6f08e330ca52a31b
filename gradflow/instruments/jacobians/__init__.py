"""Jacobians of sublayers and of whole stacks, and their spectra, bottom up: jacobians, spaces, operators, functionals,
matrices, bidiagonal, smallest, triangular, krylov, spectrum, chain.
"""
