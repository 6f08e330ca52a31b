"""One process a folder: who writes to a folder holds it, and another is told who does.

    with held(folder):
        ...

The system keeps the lock (`flock` on a file in the folder), so that of a killed process, or of one whose number another has
taken since, is gone with it. Where a file system has no locks, what is written in the file decides: who holds it, on which host.
"""

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from .files import alive, printable, unwritten

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".gradflow.lock"
TAKEN = (errno.EWOULDBLOCK, errno.EACCES)
_mine = threading.local()  # the folders that this thread holds: it may enter one again


@contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Holds a folder that is there, for this thread alone.

    Errors: BlockingIOError with process and host of who holds it; OSError where it can't be written.
    """
    folders, path = _mine.__dict__.setdefault("folders", set()), Path(os.path.realpath(folder)) / LOCK
    if path in folders:
        yield
        return
    descriptor = _locked(path)
    folders.add(path)
    try:
        yield
    finally:
        folders.discard(path)
        with suppress(OSError):  # the folder may be gone
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                path.unlink()
        os.close(descriptor)


def _locked(path: Path) -> int:
    """The descriptor of the lock file, locked, with this process written in it."""
    beside = os.O_NOFOLLOW if fcntl else 0  # what a link leads to is not ours to write to
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | beside, 0o666)
        except OSError as error:
            raise unwritten(path.parent, error) from None
        try:
            _take(descriptor, path)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # of a file that its holder has deleted meanwhile


def _take(descriptor: int, path: Path) -> None:
    """Locks the file for this process, or tells who has it."""
    try:
        refused = 0 if fcntl else errno.ENOSYS
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        refused = error.errno or errno.ENOSYS
    owner = _owner(descriptor)
    if refused in TAKEN:
        raise BlockingIOError(f"{printable(path.parent)} is in use by {_named(owner)}: wait, or name another folder")
    if refused and owner and not _dead(owner):
        raise BlockingIOError(
            f"{printable(path.parent)} is in use by {_named(owner)}: wait, name another folder, "
            f"or delete {LOCK} in it where that process is gone"
        )
    here = {"process": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat("T", "seconds")}
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(here).encode())
    except OSError as error:
        raise unwritten(path.parent, error) from None


def _owner(descriptor: int) -> dict:
    """What the file says of its holder; nothing where it says nothing."""
    with suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        told = json.loads(os.read(descriptor, 4096))
        if isinstance(told, dict):
            return told
    return {}


def _named(owner: dict) -> str:
    return (
        f"process {owner.get('process', '?')} on {owner.get('host', 'this host')} (since {owner.get('since', 'now')})"
    )


def _dead(owner: dict) -> bool:
    """Whether the holder is known to be gone: no process of this host has its number."""
    number = owner.get("process")
    return owner.get("host") == socket.gethostname() and isinstance(number, int) and not alive(number)
