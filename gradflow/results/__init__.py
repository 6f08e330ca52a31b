"""Results, bottom up: arguments, naming, digest, configuration, quantities, provenance, statistics, tree, agreement."""

from .agreement import against_theory
from .statistics import band, paired_log_ratio
from .tree import against_total_depth, entries, load, relative, save, settings
