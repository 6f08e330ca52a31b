"""Results, bottom up: arguments, naming, digest, files, locks, configuration, quantities, provenance, statistics, tree, stored,
folder, agreement.
"""

from .agreement import against_theory
from .statistics import band, paired_log_ratio
from .stored import load, save
from .tree import against_total_depth, entries, relative, settings
