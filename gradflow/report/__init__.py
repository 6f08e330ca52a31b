"""Figures, tables and the appendix; report knows results and laws alone.

Report, bottom up: nonfinite, tables, law_tables, captions, canvas, jacobian_tables, jacobian_plots, theory_tables, theory_plots,
experiment_tables, experiment_plots, atlas_tables, atlas_plots, plot, findings, summary, latex, appendix, bundle.
"""

from .bundle import write, write_atlas
