"""What is made of results: tables, words, figures, and the bundle with all of them; report knows results and laws alone.

Bottom up: tables, text, plot, gallery, paper, bundle, verification, reproduced.
"""

from .bundle import again, write, write_atlas
from .text import summary
from .verification import verify
