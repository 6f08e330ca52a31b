"""Training, bottom up: data, record, optimizers, recipe, moments, step, plan, checkpoints, loop, experiments, atlas."""
