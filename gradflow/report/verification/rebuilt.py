"""Level 1: all that follows from `results.nc` is made again and compared, as text and as numbers.

Pictures are compared by the numbers they were drawn from: each says the SHA-256 of the CSV beside it, which is made again too.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...results import topics
from ...results.files import printable
from ...results.folder import MANIFEST, manifest, signed
from ..bundle import licences
from ..bundle.contents import Contents
from ..bundle.files import files_of
from ..bundle.writing import RESULTS
from ..plot.saving import data_mark
from .finding import Finding
from .texts import difference

MARK = re.compile(rb"data-sha256:([0-9a-f]{64})")
PICTURES = (".pdf", ".png")
ENDS = {".pdf": b"%%EOF", ".png": b"IEND\xaeB`\x82"}  # the last bytes of a whole one


def findings(
    folder: Path, contents: Contents, *, exact: bool, made: Mapping[str, str] | None = None
) -> Iterator[Finding]:
    """Yields what does not follow from the results; `made` are the texts that do, by default made here."""
    others = [topics.FILE] if (folder / topics.FILE).exists() else []
    if made is None:
        made = files_of(contents, others)
    try:
        entries = manifest(folder)
    except OSError as error:
        entries = {}
        yield Finding(MANIFEST, str(error))
    yield from _manifest(entries, contents, exact)
    yield from _text(folder, contents)
    expected = {RESULTS, MANIFEST, *others, *made}
    for name, should in made.items():
        path = folder / name
        if not path.is_file():
            yield Finding(name, "it is missing")
            continue
        found = difference(name, path.read_bytes().decode("utf-8", "replace"), should, exact=exact)
        if found is not None:
            yield found
        if name.startswith("figures/"):
            for ending in PICTURES:
                picture = f"{name.removesuffix('.csv')}{ending}"
                expected.add(picture)
                yield from _picture(folder, picture, path)
    for name in sorted(set(entries.get("outputs", {})) - expected):
        yield Finding(name, "it does not follow from results.nc")


def _picture(folder: Path, name: str, table: Path) -> Iterator[Finding]:
    """Yields that a picture is missing, or was drawn from other numbers than those beside it."""
    path = folder / name
    if not path.is_file():
        yield Finding(name, "it is missing")
        return
    content = path.read_bytes()
    if not content.rstrip().endswith(ENDS[path.suffix]):
        yield Finding(name, "it has no end, as a picture that was cut")
    drawn = MARK.findall(content)
    should = data_mark(table.read_bytes().decode("utf-8", "replace")).partition(":")[2]
    if drawn != [should.encode()]:
        stands = b", ".join(drawn).decode()
        yield Finding(name, f"the SHA-256 of the numbers that it was drawn from, those of {table.name}", stands, should)


def _manifest(entries: Mapping[str, Any], contents: Contents, exact: bool) -> Iterator[Finding]:
    """Yields where the manifest says something else of the run than the results do."""
    should = signed({**licences.manifest(contents), "outputs": entries.get("outputs", {})})
    for name in dict.fromkeys([*should, *entries]):
        stands, expected = entries.get(name), should.get(name)
        if stands != expected and name != "sha256":
            found = difference(MANIFEST, str(stands), str(expected), exact=exact)
            if found is not None:
                yield found._replace(what=f"its {name}")


def _text(folder: Path, contents: Contents) -> Iterator[Finding]:
    """Yields that the text in the bundle is not the one that was read."""
    path = folder / topics.FILE
    if not path.exists():
        return
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    recorded = contents.data.get("sha256")
    if not contents.has_its_text or digest != recorded:
        yield Finding(printable(topics.FILE), "the SHA-256 of the text that was read", digest, str(recorded or ""))
