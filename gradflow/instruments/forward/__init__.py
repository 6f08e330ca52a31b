"""What a forward pass shows, and how it fares without a layer.

Bottom up: similarity, experts, attention, activations, removal.
"""
