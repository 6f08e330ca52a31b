"""What is made of results: tables, words, figures, and the folder with all of them; report knows results and laws alone.

Bottom up: tables, text, plot, gallery, bundle, reproduced.
"""

from .bundle import write, write_atlas
from .text import summary
