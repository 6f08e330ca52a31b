"""Theory, bottom up: kernels, closed, gram, gates, branches, lanes, mean_cotangent, embedding_readout, descent, predict."""

from . import branches, gates, lanes
