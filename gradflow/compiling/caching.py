"""Compiled programs, kept in a folder between processes: what one process compiled, the next reads in milliseconds.

    gf.cache()                       # in the user's cache folder, or in the one that GRADFLOW_CACHE names
    gf.cache("/scratch/programs")

JAX itself keeps them, under a key of the program, of jaxlib's release, of the device and of all that the compiler was told: with
and without the remedy of `compiler` a program has two keys. Here is added what that leaves open. A process whose sums are wrong
is refused before it reads or writes anything; releases and kinds of processor have folders of their own; what a killed process
left half-written is deleted; and the folder stays below `LARGEST` bytes. The numbers are those of the program that was kept.

A kept program is code that runs: the folder must be nobody else's to write to.
"""

import hashlib
import os
import platform
import sys
import warnings
import zlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from .. import compiler
from ..results.files import as_path, unwritten

FOLDER = "GRADFLOW_CACHE"
OFF = ("off", "0", "no", "false")
LARGEST = 2**31  # bytes, of all releases together
CHECKED = ".checked"
ENTRY = "*-cache"


def cache(folder: str | Path | None = None) -> Path:
    """Returns the folder in which this process keeps its compiled programs from now on, made where it is missing.

    folder : by default the one that the variable `GRADFLOW_CACHE` names, or else `gradflow` in the user's cache folder

    Safe between processes that run at the same time, and between versions.

    Errors: OSError for a folder that can't be written; `compiler.Unusable` where JAX doesn't start or sums wrongly.
    """
    compiler.check()
    named = os.environ.get(FOLDER, "")
    if folder is None and named and named not in OFF:
        folder = named
    place = users_folder() if folder is None else as_path(folder).absolute()
    programs = place / edition()
    try:
        programs.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_half_written(programs)
        _delete_oldest(place)
    except (OSError, ValueError) as error:
        raise unwritten(place, error) from None
    _use(programs)
    return place


def _use(programs: Path) -> None:
    """Has JAX keep programs there, all of them, and be silent about an entry that another process is writing."""
    import jax
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    reset_cache()
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def users_folder(system: str = sys.platform) -> Path:
    """Returns `gradflow` in the folder where the user's programs keep what can be made again, by the custom of the system."""
    home = Path.home()
    if system == "darwin":
        above = home / "Library" / "Caches"
    elif system == "win32":
        above = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        above = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return above / "gradflow"


def edition() -> str:
    """Returns the name of the folder for these releases of JAX and a processor with these instructions."""
    instructions = hashlib.sha256(_instructions().encode()).hexdigest()[:12]
    return f"jax-{version('jax')}-jaxlib-{version('jaxlib')}-{instructions}"


def _instructions() -> str:
    """Returns what is known of the instructions that the processor has: a program for another one may not run here."""
    kind = f"{platform.machine()} {platform.processor()}"
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return f"{kind} {line}"
    return kind


def _delete_half_written(programs: Path) -> None:
    """Deletes entries that aren't whole, of those that were written since this was last done."""
    mark = programs / CHECKED
    since = mark.stat().st_mtime if mark.exists() else 0.0
    mark.touch()
    for entry in programs.glob(ENTRY):
        with suppress(FileNotFoundError, PermissionError):  # deleted meanwhile; or in use, on Windows
            if entry.stat().st_mtime >= since - 60 and not is_whole(entry.read_bytes()):
                entry.unlink()


def is_whole(entry: bytes) -> bool:
    """Returns whether a compressed entry ends where it should; True for one that isn't compressed as JAX does without extras."""
    if entry[:1] != b"\x78":
        return bool(entry)
    stream = zlib.decompressobj()
    try:
        stream.decompress(entry)
    except zlib.error:
        return False
    return stream.eof


def _delete_oldest(place: Path) -> None:
    """Deletes the oldest entries, of any release, beyond `LARGEST` bytes."""
    entries = []
    for entry in place.glob(f"jax-*/{ENTRY}"):
        with suppress(FileNotFoundError):
            written = entry.stat()
            entries.append((written.st_mtime, written.st_size, entry))
    total = 0
    for _, size, entry in sorted(entries, reverse=True):
        total += size
        if total > LARGEST:
            with suppress(FileNotFoundError, PermissionError):
                entry.unlink()
