"""What stands in the branch: feed-forward networks, attention, delta nets, experts, memories; knows layers, and no wiring.

Bottom up: rotary, branch, attention, cross_attention, latent, gated_attention, convolution, delta_net, entries, compressed,
experts, gated_experts, ngram_memory.
"""

from .attention import Attention
from .branch import Dense, FeedForward, GatedFeedForward
from .cross_attention import CrossAttention
from .delta_net import GatedDeltaNet
from .gated_attention import GatedAttention, IndexedAttention
from .gated_experts import GatedShareExperts
from .ngram_memory import NGramMemory
