"""The licence of trained weights, as the folder that they lie in says it."""

import re
from pathlib import Path

from ...results.files import printable

CARD = "README.md"
TEXTS = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
ROOM = 2**16  # bytes that are read of either
LONGEST = 80  # characters of a licence's name
_ENTRY = re.compile(r"^(license|license_name): *['\"]?([^'\"#\n]+?)['\"]? *$", re.MULTILINE)


def stated(folder: Path) -> dict[str, str]:
    """Returns `{"name": licence, "file": where it is said}`; empty where nothing in the folder says it.

    It is the entry `license` in the head of the model card, README.md, as Hugging Face has it (`license_name` where that is
    "other"); without one the title of the file LICENSE. Names of people are no part of it.
    """
    found = dict(_ENTRY.findall(_head(_start(folder / CARD))))
    name = found.get("license", "")
    if name == "other":
        name = found.get("license_name", name)
    if name:
        return {"name": _short(name), "file": CARD}
    for text in TEXTS:
        title = _title(_start(folder / text))
        if title:
            return {"name": title, "file": text}
    return {}


def _start(path: Path) -> str:
    """Returns the start of a file as text; nothing where there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(ROOM).decode("utf-8-sig", "replace").replace("\r\n", "\n")
    except OSError:
        return ""


def _head(text: str) -> str:
    """Returns what stands between the two lines `---` at the start of a model card."""
    before, *rest = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
    if before.strip() or len(rest) < 2:
        return ""
    return rest[0]


def _title(text: str) -> str:
    """Returns the first line of a licence's text that names no holder."""
    for line in text.splitlines():
        words = line.strip(" #*")
        if words and not words.lower().startswith("copyright"):
            return _short(words)
    return ""


def _short(words: str) -> str:
    """Returns a name as it can be printed, cut where it is long."""
    plain = printable(words)
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[:LONGEST]}…"
