"""Theory, bottom up: kernels, closed, gram, branches, lanes, lean, ends, descent, predict."""

from . import branches, lanes
