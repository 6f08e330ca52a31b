"""Level 0: every file that the manifest lists is there with its SHA-256, there is no other, and the manifest is its own."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...results.files import regular, scratch
from ...results.folder import CHECKPOINTS, MANIFEST, WIRINGS, digest_of, manifest, signed
from ...results.locks import LOCK
from .finding import Finding

OUTSIDE = (CHECKPOINTS, WIRINGS)  # folders of a run that are no part of its bundle
# What pdflatex and bibtex make of the appendix, in the folder where they are called.
COMPILED = tuple(f"appendix{ending}" for ending in (".aux", ".bbl", ".blg", ".log", ".out", ".pdf"))


def findings(folder: Path) -> Iterator[Finding]:
    """Yields what is wrong with the files of a bundle."""
    try:
        entries = manifest(folder)
    except OSError as error:
        yield Finding(MANIFEST, str(error))
        return
    if "finished" not in entries:
        yield Finding(MANIFEST, "it is missing, or of no finished run")
        return
    own = signed(entries)["sha256"]
    if entries.get("sha256") != own:
        yield Finding(MANIFEST, "its own SHA-256", str(entries.get("sha256", "")), own)
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    if text != _as_written(entries):
        yield Finding(MANIFEST, "it is not written as gradflow writes it")
    listed = entries.get("outputs", {})
    there = set(_files(folder))
    for name in sorted(listed):
        if name not in there:
            yield Finding(name, "it is listed in manifest.json and missing")
            continue
        yield from _differing(folder / name, name, str(listed[name]))
    for name in sorted(there - set(listed) - {MANIFEST}):
        yield Finding(name, "it is not listed in manifest.json")


def _differing(path: Path, name: str, listed: str) -> Iterator[Finding]:
    """Yields that a file is not the listed one, or no file at all; a link to the same bytes is none, since they may change."""
    if path.is_symlink():
        yield Finding(name, "it is a link to somewhere else, and no file of this folder")
        return
    try:
        digest = digest_of(regular(path))
    except OSError as error:
        yield Finding(name, str(error))
        return
    if digest != listed:
        yield Finding(name, "its SHA-256", digest, listed)


def _as_written(entries: Mapping[str, Any]) -> str:
    """Returns the text of a manifest, as `results.files.write_json` makes it."""
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _files(folder: Path) -> Iterator[str]:
    """Yields the paths of all files in a bundle, links and empty folders too, but for checkpoints, locks and what LaTeX makes."""
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        if place == str(folder):
            folders[:] = [name for name in folders if name not in OUTSIDE and not scratch(Path(name))]
        if not folders and not names and inside != Path("."):
            yield f"{inside.as_posix()}/"
        for name in names:
            path = (inside / name).as_posix()
            if name != LOCK and path not in COMPILED and not scratch(Path(name)):
                yield path
