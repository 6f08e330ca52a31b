"""Instruments, bottom up: meters, backward, directions, jacobians, composite, readings, seeds, measurement."""
