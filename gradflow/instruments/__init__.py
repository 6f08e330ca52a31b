"""Instruments, bottom up: meters, backward, directions, jacobians, composite, similarity, readings, seeds, measurement."""
