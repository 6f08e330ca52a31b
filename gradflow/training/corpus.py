"""The bytes of a text: a file of the user's, or the language reference that CPython ships; with their SHA-256."""

import hashlib
from codecs import BOM_UTF8
from pathlib import Path

from ..model.inputs import size
from ..results import topics
from ..results.files import printable, regular


def read(path: str | Path | None) -> tuple[str, bytes, str, tuple[str, ...]]:
    """Returns `(name, content, SHA-256 of the file, notes)` of a text; by default of the one that CPython ships."""
    if path is None:
        content = topics.content()
        return topics.NAME, content, hashlib.sha256(content).hexdigest(), ()
    try:
        size.refuse(printable(path), "cut it", text=regular(path).stat().st_size)
        content = Path(path).read_bytes()
    except OSError as error:
        if error.strerror is None:  # an error of `regular`, which is complete
            raise
        raise OSError(
            f"can't read the text {printable(path)} ({error.strerror}): name a file that can be read"
        ) from None
    notes: tuple[str, ...] = ()
    if content.startswith(BOM_UTF8):
        notes = ("begins with a byte-order mark, left out",)
    sha256 = hashlib.sha256(content).hexdigest()
    return printable(Path(path).name), content.removeprefix(BOM_UTF8), sha256, notes
