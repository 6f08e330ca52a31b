"""Instruments, bottom up: meter, signal, dropout, gradients, updates, jacobians, operators, functionals, matrices, krylov,
spectrum, chain, composite, experts, uses, resolution, loss, readings, seeds, measurement.
"""
