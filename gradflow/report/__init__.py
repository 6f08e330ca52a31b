"""Report, bottom up: tables, captions, plot, summary, appendix, bundle. It knows results and laws, nothing that computes."""

from .bundle import write
