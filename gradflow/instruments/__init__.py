"""Instruments, bottom up: meter, signal, dropout, gradients, updates, jacobians, operators, spectrum, chain, composite, experts,
uses, resolution, loss, readings.
"""
