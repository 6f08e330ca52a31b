"""Theory, bottom up: kernels, closed, gram, rows, gates, branches, attention, lanes, mean_cotangent, features,
embedding_readout, descent, predict.
"""

from . import attention, branches, gates, lanes
