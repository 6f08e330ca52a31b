"""A bundle is verified: its files, what follows from its numbers, and the numbers themselves.

Bottom up: finding, texts, listing, inputs, rebuilt, recomputed, levels.
"""

from .levels import LEVELS, Verification, verify
