"""The folder of a run: made with a manifest in it before the run, filled when it is done; every file in it is whole.

`manifest.json` holds configuration and provenance, and when all is done the SHA-256 of every other file and, as `sha256`, its
own. Files are made in a hidden folder beside their places and moved there, so an interrupted run leaves none half-written. A
finished run is not overwritten unless that is asked for. The folder also holds the checkpoints of a run, and the files of an
atlas's wirings: both are no part of the result.
"""

import hashlib
import json
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
KINDS = {
    "configuration": dict,
    "begun": list,
    "outputs": dict,
    "replaces": dict,
    "finished": str,
}  # of a manifest's entries
CONFIGURATION = "configuration.json"  # among the checkpoints: the run that made them


def prepare(out: str | Path, configuration: dict, provenance: dict, *, overwrite: bool = False) -> bool:
    """Makes the output folder with the manifest in it; returns whether a finished run of the same configuration was there.

    Errors: as `begun`.
    """
    with begun(out, configuration, provenance, overwrite=overwrite) as finished:
        return finished


@contextmanager
def begun(out: str | Path, configuration: dict, provenance: dict, *, overwrite: bool = False) -> Iterator[bool]:
    """Makes the folder with the manifest in it, locks it against other processes, and yields whether a finished run was there.

    Half-written files of an interrupted run are deleted; when and by what it was begun stays in the manifest. A folder that
    holds checkpoints or wirings alone is one whose manifest is lost: each of those files names its own run.

    Errors: FileExistsError where it holds anything but an unfinished run of the same configuration, or with `overwrite` a
    finished one too; BlockingIOError where another process writes to it; OSError where it can't be written, or is damaged.
    Nothing is written before all is checked.
    """
    out, known = as_path(out), encode(configuration)
    _refuse_finished(out, _checked(out, known), overwrite)
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


def _refuse_finished(out: Path, earlier: dict, overwrite: bool) -> None:
    """Raises where the folder holds a finished run that is not to be overwritten."""
    if "finished" in earlier and not overwrite:
        raise FileExistsError(
            f"{printable(out)} holds a finished run of the same configuration, of {earlier['finished']}: name another "
            f"folder, or overwrite it (--overwrite, overwrite=True)"
        )


def attempts(out: str | Path) -> list[dict]:
    """Returns where each run that was begun in the folder and never finished came from."""
    earlier = manifest(as_path(out))
    if "finished" in earlier:
        return []
    return list(earlier.get("begun", []))


@contextmanager
def filled(
    out: str | Path, configuration: dict, provenance: dict, *, overwrite: bool = False, entries: dict | None = None
) -> Iterator[Path]:
    """Yields a hidden folder whose files, when all are made, are moved to `out` and listed in its manifest.

    `entries` are those of the finished manifest, by default configuration, provenance, the runs begun before, and the time.
    Files of the run that is overwritten which are not made again are deleted, if they are as that run left them.

    Errors: as `begun`; OSError where the disk is full.
    """
    out = as_path(out)
    earlier = _checked(out, encode(configuration))
    lock: AbstractContextManager
    if not earlier or "finished" in earlier:
        lock = begun(out, configuration, provenance, overwrite=overwrite)
    else:
        lock = held(out)
    with lock:
        try:
            with tempfile.TemporaryDirectory(dir=out, prefix=f".part-{os.getpid()}-") as hidden:
                yield Path(hidden)
                _move(Path(hidden), out, provenance, entries)
        except OSError as error:
            if not error.errno:
                raise error from None
            raise unwritten(out, error) from None


def _move(made: Path, out: Path, provenance: dict, entries: dict | None) -> None:
    """Moves every file to its place, and lists them in the manifest with their SHA-256."""
    before = manifest(out)
    replaced = before.pop("replaces", {})
    sums = digests(made)
    for name in sums:
        place = out / name
        place.parent.mkdir(exist_ok=True)
        os.replace(made / name, place)
    for name, digest in replaced.items():
        if name not in sums and (out / name).is_file() and digest_of(out / name) == digest:
            (out / name).unlink()
    if entries is None:
        entries = {**before, "provenance": provenance, "finished": now()}
    write_json(out / MANIFEST, signed({**entries, "outputs": sums}))


def digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file in a folder by its path there, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_of(path) for path in files}


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signed(entries: dict) -> dict:
    """Returns the entries of a manifest with their own SHA-256 as `sha256`: of all others as JSON, sorted and without blanks."""
    others = {name: value for name, value in entries.items() if name != "sha256"}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return {**others, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def now() -> str:
    """Returns the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def manifest(out: Path) -> dict:
    """Returns the manifest of the folder's run, with "configuration" in it; an empty dict where there is none.

    Errors: OSError where it is damaged, or is not a run's.
    """
    path = out / MANIFEST
    if not os.path.lexists(path):
        return {}
    entries = read_json(path, "delete it, or name another folder")
    fault = ""
    for name, kind in KINDS.items():
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
    """Writes the manifest of a run that begins.

    Earlier ones that never finished stay listed under `begun`, and the files of a finished one under `replaces`.
    """
    entries = {"configuration": configuration, "provenance": provenance}
    if earlier and "finished" not in earlier:
        entries["begun"] = [*earlier.get("begun", []), earlier.get("provenance")]
    replaced = earlier.get("outputs", earlier.get("replaces"))
    if replaced:
        entries["replaces"] = replaced
    write_json(out / MANIFEST, entries)
