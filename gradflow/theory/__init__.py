"""Theory, bottom up: kernels, closed, gram, branches, lanes, ends, descent, predict."""

from . import branches, lanes
