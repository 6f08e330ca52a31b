"""What stands in the branch: feed-forward networks, attention and experts; knows layers, and no wiring.

Bottom up: rotary, branch, attention, latent, entries, compressed, experts.
"""

from .attention import Attention
from .branch import Dense, FeedForward, GatedFeedForward
