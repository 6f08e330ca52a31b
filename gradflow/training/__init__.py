"""Training, bottom up: corpus, data, record, optimizers, recipe, record_schedule, step, plan, checkpoints, loop, experiments,
atlas.
"""
