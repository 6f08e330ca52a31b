"""Training, bottom up: data, loop."""
