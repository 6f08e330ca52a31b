"""The folder of a run: made with a manifest in it before the run, filled when it is done; what is in it is whole.

`manifest.json` holds configuration and provenance, and when all is done the SHA-256 of every other file. Files are made in a
hidden folder beside their places and moved there, so an interrupted run leaves none half-written. Beside them lie the
checkpoints of a run, and an atlas's files of wirings, until it is done and after.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .configuration import differences, encode
from .files import as_path, clear, printable, read_json, reason, scratch, unwritten, write_json
from .locks import LOCK, held

MANIFEST = "manifest.json"
WIRINGS = "wirings"  # where an atlas keeps a file for each
CHECKPOINTS = "checkpoints"  # where a run keeps its own, by model and step
CONFIGURATION = "configuration.json"  # in the latter, whose they are


def prepare(out: str | Path, configuration: dict, provenance: dict) -> bool:
    """Makes the output folder with the manifest in it; says whether it holds a finished result of the same configuration.

    What it says and refuses is as in `begun`.
    """
    with begun(out, configuration, provenance) as finished:
        return finished


@contextmanager
def begun(out: str | Path, configuration: dict, provenance: dict) -> Iterator[bool]:
    """Makes the folder with the manifest in it, and holds it against other processes; whether a finished run was there.

    What an interrupted run left half-made goes; when and by what it was begun stays in the manifest. A folder that holds
    checkpoints or wirings of ours alone is one whose manifest is lost: each of those says itself whose it is.

    Errors: FileExistsError where it holds anything but an earlier run of the same configuration; BlockingIOError where another
    process is at it; OSError where it can't be written, or is damaged. Nothing is written before all is checked.
    """
    out, known = as_path(out), encode(configuration)
    _checked(out, known)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritten(out, error) from None
    with held(out):
        earlier = _checked(out, known)  # by now another may have finished it
        try:
            clear(out)
        except OSError as error:
            raise unwritten(out, error) from None
        _tell(out, known, provenance, earlier)
        yield "finished" in earlier


@contextmanager
def filled(out: str | Path, configuration: dict, provenance: dict) -> Iterator[Path]:
    """A hidden folder whose files, when all are made, are moved to `out` and told to its manifest.

    Errors: as `begun`; OSError where the disk is full.
    """
    out = as_path(out)
    earlier = _checked(out, encode(configuration))
    new = not earlier or "finished" in earlier
    with begun(out, configuration, provenance) if new else held(out):
        try:
            with tempfile.TemporaryDirectory(dir=out, prefix=f".part-{os.getpid()}-") as hidden:
                yield Path(hidden)
                _move(Path(hidden), out, provenance)
        except OSError as error:
            raise (unwritten(out, error) if error.errno else error) from None


def _move(made: Path, out: Path, provenance: dict) -> None:
    """Moves every file to its place, and tells the manifest."""
    files = sorted(path for path in made.rglob("*") if path.is_file())
    sums = {str(path.relative_to(made)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for path in files:
        place = out / path.relative_to(made)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out / MANIFEST, {**manifest(out), "provenance": provenance, "finished": finished, "outputs": sums})


def manifest(out: Path) -> dict:
    """What the folder says of its run, with "configuration" in it; nothing where there is no manifest.

    Errors: OSError where it is damaged, or is not a run's.
    """
    path = out / MANIFEST
    if not os.path.lexists(path):
        return {}
    told = read_json(path, "delete it, or name another folder")
    fields = {"configuration": dict, "begun": list, "outputs": dict, "finished": str}
    wrong = [name for name, kind in fields.items() if name in told and not isinstance(told[name], kind)]
    missing = [] if "configuration" in told else ["configuration"]
    if wrong or missing:
        which = f"no {missing[0]}" if missing else f"its {wrong[0]} is none"
        raise OSError(f"{printable(path)} is damaged, or not a run's ({which}): delete it, or name another folder")
    return told


def _checked(out: Path, known) -> dict:
    """The manifest of an earlier run of the same configuration; nothing where the folder is new, or its manifest is lost."""
    if os.path.lexists(out) and not out.is_dir():
        what = "a link to nothing" if not out.exists() else "no folder"
        raise FileExistsError(f"{printable(out)} is {what}: name a folder")
    try:
        earlier = manifest(out) if out.is_dir() else {}
        others = [path.name for path in out.iterdir() if not _ours(path)] if out.is_dir() and not earlier else []
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(f"can't read {printable(out)} ({reason(error)}): name another folder") from None
    if earlier and (differ := differences(earlier["configuration"], known)):
        raise FileExistsError(f"{printable(out)} holds a run of another configuration: {differ}; name another folder")
    if others:
        raise FileExistsError(f"{printable(out)} holds something else: name another folder, or empty this one")
    return earlier


def _ours(path: Path) -> bool:
    """Whether it is what an interrupted run leaves beside its manifest: half-made, a lock, wirings, or checkpoints by model."""
    if scratch(path) or path.name == LOCK:
        return True
    if not path.is_dir():
        return False
    inside = [inner for inner in path.iterdir() if inner.name != LOCK and not scratch(inner)]
    if path.name == WIRINGS:
        return all(inner.suffix == ".nc" for inner in inside)
    return path.name == CHECKPOINTS and all(inner.name == CONFIGURATION or _of_a_model(inner) for inner in inside)


def _of_a_model(folder: Path) -> bool:
    """Whether the folder holds checkpoints, which are called by their steps, and nothing else."""
    return folder.is_dir() and all(re.match(r"\d+(\.orbax|$)", inner.name) for inner in folder.iterdir())


def _tell(out: Path, known, provenance: dict, earlier: dict) -> None:
    """Writes the manifest of a run that begins; those that were begun and never finished stay told."""
    unfinished = earlier and "finished" not in earlier
    begun = [*earlier.get("begun", []), earlier.get("provenance")] if unfinished else []
    told = {"configuration": known, "provenance": provenance}
    write_json(out / MANIFEST, {**told, "begun": begun} if begun else told)
