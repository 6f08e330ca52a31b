"""Files: what is asked for as one is looked at before it is opened, and what is written appears whole or not at all."""

import errno
import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: str | Path) -> Path:
    """`path`, where a regular file is that can be read, or a link to one; opening anything else may wait, or never end.

    Errors: OSError, of the kind that opening it would give, in one line.
    """
    path = Path(path)
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except ValueError:  # a NUL, or what the system's encoding lacks
        raise FileNotFoundError(f"{printable(path)} is no name of a file") from None
    except FileNotFoundError:
        link = ": it is a link to nothing" if path.is_symlink() else ""
        raise FileNotFoundError(f"there is no file {printable(path)}{link}") from None
    except OSError as error:
        raise type(error)(f"can't read {printable(path)} ({error.strerror}): name a file") from None
    if kind != stat.S_IFREG:
        unfit = IsADirectoryError if kind == stat.S_IFDIR else OSError
        raise unfit(f"{printable(path)} is {KINDS.get(kind, 'no file')}: a regular file is expected")
    if not os.access(path, os.R_OK):
        raise PermissionError(
            f"can't read {printable(path)} ({os.strerror(errno.EACCES)}): name a file that can be read"
        )
    return path


def printable(path: str | Path) -> str:
    """The path for a line of text: as it is, or with escapes where it holds what would not print, a line's end among it."""
    text = str(path)
    return text if text.isprintable() and text else repr(text)
