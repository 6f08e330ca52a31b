"""Instruments, bottom up: meter, signal, dropout, parameter_norms, example, gradients, noise, updates, jacobians, spaces,
operators, functionals, matrices, krylov, spectrum, directions, chain, composite, experts, uses, resolution, loss, readings,
seeds, measurement.
"""
