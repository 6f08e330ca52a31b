"""What stands in the branch: feed-forward networks, attention and experts; knows layers, and no wiring.

Bottom up: rotary, branch, latent, experts.
"""

from .branch import Attention, Dense, FeedForward, GatedFeedForward
