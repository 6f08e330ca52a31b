"""Equation (1), the residual sublayer, with the walk over a stack, and the budget of its backward pass; knows no layer.

Bottom up: sublayer, budget.
"""
