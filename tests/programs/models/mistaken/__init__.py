"""Mutants by name, each a function that makes one: `framework/mistake`, and `framework/mistake/layer_1`.

And the right decoder of each framework, from which they are made.
"""

from . import equinox, linen, nnx, plain
from .mutant import MISTAKES, Mutant

FRAMEWORKS = {"plain": plain, "linen": linen, "nnx": nnx, "equinox": equinox}
RIGHT = {name: framework.right for name, framework in FRAMEWORKS.items()}
MUTANTS = {name: make for framework in FRAMEWORKS.values() for name, make in framework.MUTANTS.items()}
