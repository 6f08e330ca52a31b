"""What the import hook of conftest.py decorates with: beartype, where a signature names shapes."""

import inspect

from beartype import beartype
from jaxtyping import AbstractArray


def shaped(function):
    """`function`, its arguments and result checked at run time if one of them has a jaxtyping shape; else as it is.

    Parts are protocols that a pure function satisfies too, which no run-time check can tell.
    """
    hints = inspect.get_annotations(function).values()
    shapes = any(isinstance(hint, type) and issubclass(hint, AbstractArray) for hint in hints)
    return beartype(function) if shapes else function
