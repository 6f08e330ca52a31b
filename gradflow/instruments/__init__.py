"""Instruments, bottom up: meters, backward, forward, directions, jacobians, composite, readings, seeds, measurement."""
