"""Results, bottom up: configuration, quantities, provenance, statistics, tree."""

from .statistics import band, paired_log_ratio
from .tree import against_total_depth, load, relative, save, settings
