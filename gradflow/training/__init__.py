"""Training, bottom up: data, record, recipe, moments, step, plan, checkpoints, loop, experiments."""
