"""Training, bottom up: corpus, data, record, optimizers, recipe, moments, step, plan, checkpoints, loop, experiments, atlas."""
