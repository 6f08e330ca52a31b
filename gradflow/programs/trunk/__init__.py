"""The residual stream in a program: where it begins and ends, its sublayers and positions, and whose its parameters are.

May import `trace`. Bottom up: trunk, choices, lane_sums, points, frontiers, search, positions, layer_names, parameters,
coordinates.
"""
