"""Instruments, bottom up: meter, signal, gradients, jacobians, operators, spectrum, chain, loss, readings."""
