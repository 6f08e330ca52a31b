"""The console: error messages of few lines, output in any encoding, and exit codes.

Exit codes: 0; 2 for an error of the input or the machine, one line that names the remedy; 3 for a bundle that `verify` finds
not in order, and 4 for one that it can't compute again in full; 1 for an unforeseen error; 130 when interrupted; 141 when the
reader of the output has closed it (`gradflow wirings | head -1`).
"""

import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from ..compiler import Unusable

TRACEBACK = "GRADFLOW_TRACEBACK"
LONGEST = 400  # characters of a line
# What the parser says of an argument that was not given: its type, what it is.
MISSING = re.compile(r"Missing from gradflow \w+: \S+ (.*?)\.? \(required\)")


def refuse(command: str, error: Any) -> None:
    """Prints the error as one line on standard error, and ends the process with exit code 2."""
    print(f"{' '.join(['gradflow', command]).strip()}: {one_line(error)}", file=sys.stderr)
    raise SystemExit(2) from None


def one_line(error: Any, longest: int = LONGEST) -> str:
    """Returns the text of an error as one line, cut at `longest` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= longest:
        return text
    return f"{text[:longest]}…"


@contextmanager
def refusing(command: str, *errors: type[Exception]) -> Iterator[None]:
    """Turns these errors, and an unusable JAX, into one line and exit code 2."""
    refused: tuple[type[Exception], ...] = (*errors, Unusable)
    try:
        yield
    except BrokenPipeError:
        raise
    except refused as error:
        refuse(command, error)


def parsed(parse: Callable[..., Any], words: Sequence[str], commands: Sequence[str]) -> Any:
    """Returns the result of `parse`; its error message, many lines in a box, becomes one line with its remedy."""
    message = io.StringIO()
    try:
        with redirect_stderr(message):
            return parse(args=list(words))
    except SystemExit as stop:
        if not stop.code:
            raise
    command = words[0] if words and words[0] in commands else ""
    help_command = " ".join(["gradflow", command, "--help"]) if command else "gradflow --help"
    refuse(command, _unboxed(message.getvalue(), help_command))


def _unboxed(text: str, help_command: str) -> str:
    """Returns the message in a box as one line, with the nearest options where it names some."""
    sections: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith(("╭", "╰")):
            continue
        row = line.strip(" │")
        if re.fullmatch("[─-]{3,}", row):
            sections.append([])
        else:
            sections[-1].append(row)
    if "│" not in text:
        del sections[0]  # the title, which is otherwise in the frame
    message, *rest = [one_line(" ".join(section)) for section in sections]
    message = MISSING.sub(r"an argument is missing: \1", message).rstrip(".")
    nearest = _nearest_options(rest)
    if nearest:
        return f"{message}; did you mean {' or '.join(nearest[:3])}? {help_command} lists what there is"
    return f"{message}; {help_command} lists what there is"


def _nearest_options(sections: list[str]) -> list[str]:
    """Returns the options that the sections of a message propose, each once."""
    options: list[str] = []
    for section in sections:
        if not section.startswith("Perhaps you meant"):
            continue
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", section):
            if option != "--help" and option not in options:
                options.append(option)
    return options


@contextmanager
def speaking(words: Sequence[str]) -> Iterator[None]:
    """Runs a command: every letter can be printed, warnings become notes, and a traceback is shown only on request."""
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
    """Prints a warning in one line, without its place in a library."""
    print(f"note: {one_line(message)}", file=sys.stderr)


def _unforeseen(command: str, error: BaseException) -> None:
    """Prints two lines for an unforeseen error, and ends the process with exit code 1."""
    kind = type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        why = one_line(error, 120)
        refuse(command, f"out of memory ({why}): take fewer blocks, features, seeds, examples or tokens")
    print(f"gradflow {command}: unforeseen {kind}: {one_line(error)}", file=sys.stderr)
    print(f"this is a defect: please report it with the command; {TRACEBACK}=1 shows where it is", file=sys.stderr)
    raise SystemExit(1) from None


@contextmanager
def _any_letter() -> Iterator[None]:
    """Has letters that are not in the console's encoding printed as their codes."""
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
    """Discards the rest of the output, which nobody reads."""
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
