"""What a paper includes of a bundle: LaTeX, macros of its numbers, hyperparameters, references; numbers come from tables alone.

Bottom up: latex, formulas, macros, hyperparameters, work, recent_cited,
wirings_cited, tools_cited, references, body.
"""
