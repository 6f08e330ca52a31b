"""Results, bottom up: arguments, fields, naming, digest, checksums, files, locks, configuration, description, quantities,
resources, provenance, statistics, tree, sweeps, stored, cells, executors, grid, folder, agreement, lines, diagnosis,
reproduction, topics, tolerance, repeated.
"""

from .agreement import against_theory
from .statistics import band, paired_log_ratio
from .stored import load, save
from .sweeps import against_total_depth
from .tree import entries, relative, settings
