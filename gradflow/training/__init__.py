"""Training, bottom up: corpus, stepped, data, record, optimizers, recipe, record_schedule, step, plan, checkpoints, loop,
experiments, atlas.
"""
