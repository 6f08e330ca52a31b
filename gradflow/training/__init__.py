"""Training, bottom up: corpus, stepped, data, record, optimizers, by_size, recipe, record_schedule, step, plan, checkpoints,
loop, experiments, precision, atlas.
"""
