"""The console: what a command says there, in few lines and in any encoding, and how it ends.

Exit codes: 0; 2 for what is wrong with the input or the machine, one line that names the remedy; 1 for what was not foreseen;
130 when interrupted; 141 when nobody reads on (`gradflow wirings | head -1`).
"""

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from ..compiler import Unusable

TRACEBACK = "GRADFLOW_TRACEBACK"
LONGEST = 400  # characters of a line


def refuse(command: str, error: Any) -> None:
    """One line on standard error, whatever the error has, and the end of the process."""
    print(f"{' '.join(['gradflow', command]).strip()}: {one_line(error)}", file=sys.stderr)
    raise SystemExit(2) from None


def one_line(error: Any, longest: int = LONGEST) -> str:
    """The words of an error as one line that is not too long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}…"


@contextmanager
def refusing(command: str, *errors: type[Exception]) -> Iterator[None]:
    """What is wrong with the input, with the disk or with JAX as it was told to be, becomes one line, and exit code 2."""
    told: tuple[type[Exception], ...] = (*errors, Unusable)
    try:
        yield
    except BrokenPipeError:
        raise
    except told as error:
        refuse(command, error)


def parsed(parse: Callable[..., Any], words: Sequence[str], commands: Sequence[str]) -> Any:
    """What `parse` makes of the words; what it says of an error, many lines in a box, becomes one line with its remedy."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parse(args=list(words))
    except SystemExit as stop:
        if not stop.code:
            raise
    known = [word for word in words[:1] if word in commands]
    refuse(" ".join(known), _unboxed(said.getvalue(), " ".join(["gradflow", *known, "--help"])))


def _unboxed(text: str, helps: str) -> str:
    """What a box says under its title, and the nearest options where it names some."""
    rows = [row.strip(" │") for row in text.splitlines() if not row.startswith(("╭", "╰"))]
    sections: list[list[str]] = [[]]
    for row in rows:
        sections.append([]) if re.fullmatch("[─-]{3,}", row) else sections[-1].append(row)
    if "│" not in text:
        del sections[0]  # the title, which is otherwise in the frame
    said, *rest = [one_line(" ".join(section)) for section in sections]
    nearest = [section for section in rest if section.startswith("Perhaps you meant")]
    near = dict.fromkeys(option for section in nearest for option in re.findall(r"(?<!\S)--[a-z][\w-]*", section))
    near.pop("--help", None)
    meant = f"; did you mean {' or '.join(list(near)[:3])}?" if near else ""
    return f"{said.rstrip('.')}{meant or ';'} {helps} lists what there is"


@contextmanager
def quietly() -> Iterator[None]:
    """What somebody's module prints while it is imported is not shown."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


@contextmanager
def speaking(words: Sequence[str]) -> Iterator[None]:
    """A command's run: every letter can be printed, warnings are notes, and no traceback is seen unless it is asked for."""
    with _any_letter(), _leaving_when_interrupted(), warnings.catch_warnings():
        warnings.showwarning = _note
        try:
            yield
            sys.stdout.flush()
        except BrokenPipeError:
            _stop_listening()
            raise SystemExit(141) from None
        except (Exception, KeyboardInterrupt) as error:
            if os.environ.get(TRACEBACK):
                raise
            _unforeseen(" ".join(words[:1]), error)


def _note(message, category, filename, lineno, file=None, line=None) -> None:
    """A warning, in one line, without the place in a library that it comes from."""
    print(f"note: {one_line(message)}", file=sys.stderr)


def _unforeseen(command: str, error: BaseException) -> None:
    """Two lines for an error that should have been a refusal, and exit code 1."""
    kind = type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        refuse(
            command, f"out of memory ({one_line(error, 120)}): take fewer blocks, features, seeds, examples or tokens"
        )
    print(f"gradflow {command}: unforeseen {kind}: {one_line(error)}", file=sys.stderr)
    print(f"this is a defect: please report it with the command; {TRACEBACK}=1 shows where it is", file=sys.stderr)
    raise SystemExit(1) from None


@contextmanager
def _any_letter() -> Iterator[None]:
    """Letters that the console's encoding has not are printed as their codes."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


def _stop_listening() -> None:
    """Nobody reads what is still to be written: it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


@contextmanager
def _leaving_when_interrupted() -> Iterator[None]:
    """An interruption (Ctrl-C) ends the process at once, with one line and exit code 130, unless it is ignored here.

    As an exception it could be swallowed, by an import or by a callback of the garbage collector; and compiled work, which
    goes on in threads of its own, would crash in an interpreter that is taken down beneath it. Every file is whole or not there.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(*_) -> None:
    line = "gradflow: interrupted; no file is half-written, and --resume continues from the last checkpoint"
    os.write(2, f"\n{line} (atlas: the same command)\n".encode())  # not by print, which may be what was interrupted
    os._exit(130)
