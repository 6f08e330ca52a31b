"""One process a folder: a process that writes to a folder locks it, and any other gets an error that names the first.

    with held(folder):
        ...

The system keeps the lock (`flock` on a file in the folder), so the lock of a killed process ends with it, also where another
process has taken its number since. Where a file system has no locks, the process and host written in the file decide.
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
    """Locks an existing folder for this thread alone.

    Errors: BlockingIOError with the process and host that hold it; OSError where it can't be written.
    """
    folders = _mine.__dict__.setdefault("folders", set())
    path = Path(os.path.realpath(folder)) / LOCK
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
    """Returns the descriptor of the lock file, locked, with this process written in it."""
    flags = os.O_RDWR | os.O_CREAT
    if fcntl:
        flags |= os.O_NOFOLLOW  # a link leads to a file that is not ours
    while True:
        try:
            descriptor = os.open(path, flags, 0o666)
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
    """Locks the file for this process, or raises an error that names the process which has it."""
    refused = _try_lock(descriptor)
    owner = _owner(descriptor)
    if refused in TAKEN:
        raise BlockingIOError(f"{printable(path.parent)} is in use by {_named(owner)}: wait, or name another folder")
    if refused and owner and not _dead(owner):
        raise BlockingIOError(
            f"{printable(path.parent)} is in use by {_named(owner)}: wait, name another folder, "
            f"or delete {LOCK} in it where that process is gone"
        )
    since = datetime.now(UTC).isoformat("T", "seconds")
    here = {"process": os.getpid(), "host": socket.gethostname(), "since": since}
    try:
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(here).encode())
    except OSError as error:
        raise unwritten(path.parent, error) from None


def _try_lock(descriptor: int) -> int:
    """Asks the system for the lock; returns 0 where it is granted, else the number of the error."""
    if not fcntl:
        return errno.ENOSYS
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.ENOSYS
    return 0


def _owner(descriptor: int) -> dict:
    """Returns the entries about the holder in the file; an empty dict where there are none."""
    with suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = json.loads(os.read(descriptor, 4096))
        if isinstance(owner, dict):
            return owner
    return {}


def _named(owner: dict) -> str:
    process = owner.get("process", "?")
    host = owner.get("host", "this host")
    return f"process {process} on {host} (since {owner.get('since', 'now')})"


def _dead(owner: dict) -> bool:
    """Returns whether the holder is known to be gone: no process of this host has its number."""
    number = owner.get("process")
    return owner.get("host") == socket.gethostname() and isinstance(number, int) and not alive(number)
