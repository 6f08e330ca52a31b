"""Instruments, bottom up: meter, signal, budget, gradients, jacobians, loss, readings."""
