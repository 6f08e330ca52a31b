"""gradflow: how gradients travel through deep residual stacks, measured factor by factor. A table of contents."""

from .instruments import jacobians
from .instruments.meter import meter
from .instruments.readings import measure, sweep
from .model.equation import sublayer, walk
from .model.layers import Attention, FeedForward, GatedFeedForward, LayerNorm, RMSNorm, Rotary
from .model.stack import Segment, Sublayer, Transformer, transformer, transformers
from .model.wiring import Wiring
from .training import data
from .training.loop import train
