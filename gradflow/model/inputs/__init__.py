"""What a user hands in beside a model, checked before anything is compiled: its size, weights, a batch; knows contracts and keys.

Bottom up: weights, size, context, ngrams, batch.
"""
