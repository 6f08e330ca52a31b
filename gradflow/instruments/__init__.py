"""Instruments, bottom up: meters, backward, forward, directions, jacobians, composite, rounding, readings, seeds, measurement."""
