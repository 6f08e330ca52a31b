"""The folder of a run: made with a manifest in it before the run, filled when it is done; every file in it is whole.

`manifest.json` holds configuration and provenance, and when all is done the SHA-256 of every other file. Files are made in a
hidden folder beside their places and moved there, so an interrupted run leaves none half-written. The folder also holds
the checkpoints of a run, and the files of an atlas's wirings.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .configuration import differences, encode
from .files import as_path, clear, printable, read_json, reason, scratch, unwritten, write_json
from .locks import LOCK, held

MANIFEST = "manifest.json"
WIRINGS = "wirings"  # where an atlas keeps a file for each
CHECKPOINTS = "checkpoints"  # where a run keeps its own, by model and step
CONFIGURATION = "configuration.json"  # among the checkpoints: the run that made them


def prepare(out: str | Path, configuration: dict, provenance: dict) -> bool:
    """Makes the output folder with the manifest in it; returns whether a finished run of the same configuration was there.

    Errors: as `begun`.
    """
    with begun(out, configuration, provenance) as finished:
        return finished


@contextmanager
def begun(out: str | Path, configuration: dict, provenance: dict) -> Iterator[bool]:
    """Makes the folder with the manifest in it, locks it against other processes, and yields whether a finished run was there.

    Half-written files of an interrupted run are deleted; when and by what it was begun stays in the manifest. A folder that
    holds checkpoints or wirings alone is one whose manifest is lost: each of those files names its own run.

    Errors: FileExistsError where it holds anything but an earlier run of the same configuration; BlockingIOError where another
    process writes to it; OSError where it can't be written, or is damaged. Nothing is written before all is checked.
    """
    out, known = as_path(out), encode(configuration)
    _checked(out, known)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritten(out, error) from None
    with held(out):
        earlier = _checked(out, known)  # another process may have finished it meanwhile
        try:
            clear(out)
        except OSError as error:
            raise unwritten(out, error) from None
        _write_manifest(out, known, provenance, earlier)
        yield "finished" in earlier


@contextmanager
def filled(out: str | Path, configuration: dict, provenance: dict) -> Iterator[Path]:
    """Yields a hidden folder whose files, when all are made, are moved to `out` and listed in its manifest.

    Errors: as `begun`; OSError where the disk is full.
    """
    out = as_path(out)
    earlier = _checked(out, encode(configuration))
    lock: AbstractContextManager
    if not earlier or "finished" in earlier:
        lock = begun(out, configuration, provenance)
    else:
        lock = held(out)
    with lock:
        try:
            with tempfile.TemporaryDirectory(dir=out, prefix=f".part-{os.getpid()}-") as hidden:
                yield Path(hidden)
                _move(Path(hidden), out, provenance)
        except OSError as error:
            if not error.errno:
                raise error from None
            raise unwritten(out, error) from None


def _move(made: Path, out: Path, provenance: dict) -> None:
    """Moves every file to its place, and lists them in the manifest with their SHA-256."""
    files = sorted(path for path in made.rglob("*") if path.is_file())
    sums = {}
    for path in files:
        sums[str(path.relative_to(made))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in files:
        place = out / path.relative_to(made)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out / MANIFEST, {**manifest(out), "provenance": provenance, "finished": finished, "outputs": sums})


def manifest(out: Path) -> dict:
    """Returns the manifest of the folder's run, with "configuration" in it; an empty dict where there is none.

    Errors: OSError where it is damaged, or is not a run's.
    """
    path = out / MANIFEST
    if not os.path.lexists(path):
        return {}
    entries = read_json(path, "delete it, or name another folder")
    fault = ""
    for name, kind in {"configuration": dict, "begun": list, "outputs": dict, "finished": str}.items():
        if name in entries and not isinstance(entries[name], kind):
            fault = fault or f"its {name} is none"
    if "configuration" not in entries:
        fault = "no configuration"
    if fault:
        raise OSError(f"{printable(path)} is damaged, or not a run's ({fault}): delete it, or name another folder")
    return entries


def _checked(out: Path, configuration) -> dict:
    """Returns the manifest of an earlier run of the same configuration; empty where the folder is new, or its manifest is lost.

    Errors: FileExistsError where the folder holds anything else.
    """
    if os.path.lexists(out) and not out.is_dir():
        what = "no folder" if out.exists() else "a link to nothing"
        raise FileExistsError(f"{printable(out)} is {what}: name a folder")
    try:
        earlier, others = _contents(out)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(f"can't read {printable(out)} ({reason(error)}): name another folder") from None
    if earlier:
        difference = differences(earlier["configuration"], configuration)
        if difference:
            raise FileExistsError(
                f"{printable(out)} holds a run of another configuration: {difference}; name another folder"
            )
    if others:
        raise FileExistsError(f"{printable(out)} holds something else: name another folder, or empty this one")
    return earlier


def _contents(out: Path) -> tuple[dict, list[str]]:
    """Returns the manifest of a folder, and where there is none the names of what no run of ours left in it."""
    if not out.is_dir():
        return {}, []
    earlier = manifest(out)
    if earlier:
        return earlier, []
    return {}, [path.name for path in out.iterdir() if not _left_by_a_run(path)]


def _left_by_a_run(path: Path) -> bool:
    """Returns whether an interrupted run leaves this beside its manifest: half-written files, a lock, wirings, checkpoints."""
    if scratch(path) or path.name == LOCK:
        return True
    if not path.is_dir() or path.name not in (WIRINGS, CHECKPOINTS):
        return False
    for inner in path.iterdir():
        if inner.name == LOCK or scratch(inner):
            continue
        if path.name == WIRINGS and inner.suffix != ".nc":
            return False
        if path.name == CHECKPOINTS and inner.name != CONFIGURATION and not _has_only_checkpoints(inner):
            return False
    return True


def _has_only_checkpoints(folder: Path) -> bool:
    """Returns whether the folder holds checkpoints, which are named by their steps, and nothing else."""
    return folder.is_dir() and all(re.match(r"\d+(\.orbax|$)", inner.name) for inner in folder.iterdir())


def _write_manifest(out: Path, configuration, provenance: dict, earlier: dict) -> None:
    """Writes the manifest of a run that begins; earlier ones that never finished stay listed under `begun`."""
    entries = {"configuration": configuration, "provenance": provenance}
    if earlier and "finished" not in earlier:
        entries["begun"] = [*earlier.get("begun", []), earlier.get("provenance")]
    write_json(out / MANIFEST, entries)
