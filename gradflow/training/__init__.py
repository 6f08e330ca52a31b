"""Training, bottom up: data, record, loop."""
