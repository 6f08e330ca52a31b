"""Files: a path is checked before it is opened, and a file that is written appears whole or not at all."""

import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .arguments import shown

PATH = 160  # characters of a path in a line
WORDS = 100  # characters of another library's message in a line
LARGEST = 2**26  # bytes of JSON that are read: a run's are some thousand
SCRATCH = re.compile(r"\..+\.(?P<file>\d+)\.part|\.part-(?:(?P<folder>\d+)-)?\w+")
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: str | Path) -> Path:
    """Returns `path` where it is a regular file that can be read, or a link to one; opening anything else may never end.

    Errors: OSError, of the kind that opening it would give, in one line.
    """
    path = as_path(path)
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


def all_regular(folder: str | Path) -> None:
    """Raises for a folder that holds anything but regular files, at any depth, for a library that opens all that is there.

    Errors: OSError, as `regular`.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            regular(Path(place) / name)


def as_path(path: str | Path) -> Path:
    """Returns `path` as a `pathlib.Path`; an error where it is no path."""
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise TypeError(f"a path is {shown(path)}: a text or a pathlib.Path is needed")
    return Path(path)


def printable(path: str | Path) -> str:
    """Returns the path for a line of text, escaped where it would not print, and without the middle of a long one."""
    text = str(path)
    if not text or not text.isprintable():
        text = repr(text)
    if len(text) <= PATH:
        return text
    return f"{text[: PATH // 2]}…{text[-PATH // 2 :]}"


def reason(error: BaseException) -> str:
    """Returns what went wrong in a few words: the system's own, also where another library's exception only quotes them."""
    number = error.errno if isinstance(error, OSError) else None
    quoted = re.search(r"os_error_code='(\d+)|OS error (\d+)|errno = (\d+)", str(error))
    if number is None and quoted:
        number = int(quoted[quoted.lastindex or 0])
    if number:
        return os.strerror(number)
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):  # whose words are the key alone
        words = f"no {words}"
    if len(words) <= WORDS:
        return words
    return f"{words[:WORDS]}…"


def unwritten(path: str | Path, error: BaseException) -> OSError:
    """Returns the error for a path that could not be written, with the remedy."""
    why = reason(error)
    remedy = "name a folder that can be written"
    if why in map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        remedy = "free some space, or name a folder elsewhere"
    return OSError(f"can't write to {printable(path)} ({why}): {remedy}")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to: the file there is moved to `path` at the end, and deleted after a failure.

    Errors: OSError where the system refuses, in one line.
    """
    path = as_path(path)
    if not path.name:
        raise IsADirectoryError(f"{printable(path)} is a folder: name a file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # HDF5 runs out of space in either
        raise unwritten(path, error) from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, data: dict) -> None:
    """Writes the mapping as a file that is whole or not there."""
    with whole(path) as part:
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        part.write_bytes(text.encode("utf-8", "backslashreplace"))  # a name that is not UTF-8 has its escapes in JSON


def read_json(path: Path, remedy: str) -> dict:
    """Returns the mapping in a file of JSON.

    Errors: OSError for everything else, in one line that ends with the remedy.
    """
    try:
        if regular(path).stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"a {type(data).__name__}, where an object is expected")
    except (ValueError, RecursionError) as error:
        raise OSError(f"{printable(path)} is damaged ({reason(error)}): {remedy}") from None
    except OSError as error:
        raise OSError(f"{error}; {remedy}") from None
    return data


def scratch(path: Path) -> bool:
    """Returns whether the name is one of a half-written file or folder."""
    return SCRATCH.fullmatch(path.name) is not None


def clear(folder: Path) -> None:
    """Deletes half-written files and folders, except those that another living process of this host is writing.

    For the process that holds the folder (see `locks`): processes on other hosts can't be seen from here.
    """
    for path in list(folder.iterdir()):
        if not scratch(path) or _written_by_another(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _written_by_another(path: Path) -> bool:
    """Returns whether the half-written name has the number of another process, and that process is alive."""
    name = SCRATCH.fullmatch(path.name)
    if name is None:
        return False
    process = int(name["file"] or name["folder"] or 0)
    return process not in (0, os.getpid()) and alive(process)


def alive(process: int) -> bool:
    """Returns whether a process of that number runs on this host, as far as can be known."""
    if os.name == "nt":  # where the question would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True
