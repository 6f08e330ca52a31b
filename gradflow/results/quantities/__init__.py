"""The table of quantities: every number gradflow reports has one name, one formula, one unit and its dimensions here.

Dimensions: `depth` are the S + 1 positions of the stream (0 is the embedding), `sublayer` the S residual sublayers,
1..S, `block` whole blocks, 1..L. `factor` are the parts of equation (1) along the backward path, `term` the shares of a
fork, `parameter` the weights of a sublayer, `outer` those outside the stack; `head`, `token` and `feature` count from 0;
`index` counts singular values, `probe` the probe directions, `side` the direction of a pass; `precision` is that of the stream,
`rounded` what has an error of rounding, `lost` where numbers get too small.
g_l stands for ∂loss/∂x_l, one array over examples, tokens and features; loss is the mean over all targets of the batch.

Bottom up: vocabulary, quantity, sources, passes, forward, jacobians, training, table.
"""

from .quantity import ARITHMETIC, GEOMETRIC, Quantity
from .sources import SOURCES, Source
from .table import QUANTITIES, by_what_they_yield, listed, quantities, row
from .vocabulary import (
    ARRAYS,
    FACTORS,
    FIXED,
    JACOBIANS,
    LOG_SIGMA,
    LOST,
    PLACES,
    PROBES,
    QUANTILES,
    ROUNDED,
    ROUNDINGS,
    SCHATTEN,
    SIDES,
    TERMS,
)
