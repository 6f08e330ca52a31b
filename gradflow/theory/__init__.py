"""Theory, bottom up: kernels, closed, gram, branches, lanes, mean_cotangent, embedding_readout, descent, predict."""

from . import branches, lanes
