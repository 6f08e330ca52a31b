"""Instruments, bottom up: meter, signal, budget, gradients, jacobians, operators, spectrum, chain, loss, readings."""
