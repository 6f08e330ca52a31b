"""What can stand in a place of equation (1): gains, norms, and maps between lanes; each has its formula and its citation.

Bottom up: functional, attention, layer, norms, gates, lanes, history, depth_attention, feature_gates,
lane_mixing, manifolds.
"""

from .layer import Complement, FeatureGain, Gain, Identity, Layer, ScalarGain, Shift, Zero, as_layer
