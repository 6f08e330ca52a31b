"""The numbers of a bundle computed again from what its results say of themselves: models, text, recipe, key, steps, readings.

`report.verify` compares them with the recorded ones, level 2 those of the first steps, level 3 all. All seeds are computed at any
level: readings of several seeds are one program, whose last bits are not those of a program for one.

What can't be computed again is said in one line, part by part: norms that another tool logged, programs and readings whose code
is the author's, weights and batches that were given in a Python session, and text and weights that are not at hand.

Bottom up: sources, described, repeated, parts.
"""

from .parts import recompute
from .repeated import Beginning
