"""Report, bottom up: tables, captions, canvas, plot, summary, appendix, bundle. It knows results and laws alone."""

from .bundle import write
