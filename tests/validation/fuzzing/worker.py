"""The process that runs cases: reads one a line from standard input, answers with what came of it, in a line of JSON."""

import contextlib
import functools
import json
import linecache
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

import compiling

compiling.use_fast_compilation()

from validation.fuzzing import checks, world  # noqa: E402
from validation.fuzzing.cases import Case  # noqa: E402
from validation.fuzzing.running import LIMIT, Outcome, clear, verdict  # noqa: E402

import gradflow  # noqa: E402

HOME = Path(gradflow.__file__).parent
DELIBERATE = (ValueError, TypeError, KeyError, OSError, NotImplementedError, ImportError, AttributeError, MemoryError)
BINDING = re.compile(
    r"unexpected keyword argument|required .*argument|takes .* positional|multiple values for|valid JAX type"
)
MEMORY, FILE = 6 << 30, 512 << 20  # bytes
TICK, IDLE, STILL = 2.0, 20.0, 0.004  # seconds; of computing within a tick, what is none


class Hung(BaseException):
    """Out of time: no `Exception`, so that nobody mends it on the way."""


@functools.cache
def _house() -> frozenset[str]:
    """The library's own files."""
    return frozenset(map(str, HOME.rglob("*.py")))


def refused(error: BaseException) -> str:
    """What is wrong with an error as a refusal; empty for one that the library raised on purpose, in a short line."""
    if isinstance(error, world.Refused):
        return error.fault
    words = f"{type(error).__name__}: {error}"
    if not isinstance(error, DELIBERATE):
        return words
    where = traceback.extract_tb(error.__traceback__)[-1]
    if (
        isinstance(error, TypeError)
        and BINDING.search(str(error))
        and where.filename
        in (
            "<string>",
            contextlib.__file__,  # of a decorator
            *_house(),
        )
    ):
        return ""
    raised = linecache.getline(where.filename, where.lineno).strip().startswith("raise")
    if where.filename not in _house() or not raised:
        return f"{words} (from {Path(where.filename).name}:{where.lineno})"
    fault = clear(str(error))
    return f"{fault}: {error}" if fault else ""


@contextmanager
def caught(place: Path):
    """What is written to the screen goes to a file instead, also by what is not Python."""
    kept = os.dup(1), os.dup(2)
    streams = sys.stdout, sys.stderr
    with place.open("w", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


class Clock:
    """Raises `Hung` where a case has computed for `LIMIT` seconds, or done nothing for `IDLE`: a busy machine hangs nothing."""

    def __init__(self):
        self.begun = self.before = time.process_time()
        self.idle = 0.0

    def __call__(self, *_):
        spent = time.process_time()
        self.idle = 0.0 if spent - self.before > STILL else self.idle + TICK
        self.before = spent
        if spent - self.begun > LIMIT or self.idle >= IDLE:
            raise Hung


@contextmanager
def limited():
    """`Hung` for what doesn't end."""
    before = signal.signal(signal.SIGALRM, Clock())
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tried(case: Case) -> tuple[str, str]:
    """`(outcome, detail)` of a case; in the folder one stands in."""
    try:
        with limited():
            eval(case.code, world.names())
    except Hung:
        return "hung", f"nothing done for {IDLE:g} s, or no end within {LIMIT:g} s of computing"
    except checks.Wrong as error:
        return "wrong", str(error)
    except BaseException as error:
        fault = refused(error)
        return ("raw", fault) if fault else verdict(case.expected, True, str(error))
    return verdict(case.expected, False, "")


def outcome(case: Case, root: Path) -> Outcome:
    """What came of a case, in an empty folder of its own, which goes afterwards."""
    folder = Path(tempfile.mkdtemp(dir=root, prefix="case-"))
    os.chdir(folder)
    begun, screen = time.monotonic(), root / f"{folder.name}.txt"
    modules = set(sys.modules)
    try:
        with caught(screen), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                for name in case.needs:
                    world.prepared(name)
            except world.Unmade as error:
                return Outcome(case.name, "raw", str(error)[:600])
            begun = time.monotonic()
            found, detail = tried(case)
        shown = screen.read_text(encoding="utf-8", errors="replace")
        if "Traceback (most recent call last)" in shown and found in ("refused", "right"):
            found, detail = "raw", f"a traceback on the screen: {shown.strip().splitlines()[-1]}"
        return Outcome(case.name, found, detail[:600], time.monotonic() - begun)
    finally:
        world.settled()
        os.chdir(root)
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
        shutil.rmtree(folder, ignore_errors=True)
        screen.unlink(missing_ok=True)


def alone(case: Case, root: Path) -> None:
    """One case, with what it shows and its traceback."""
    world.stand_in(root)
    folder = Path(tempfile.mkdtemp(dir=root, prefix="case-"))
    os.chdir(folder)
    for name in case.needs:
        world.prepared(name)
    try:
        with limited():
            eval(case.code, world.names())
        print("it ran, and the check held")
    except BaseException as error:
        traceback.print_exc()
        print(refused(error) or "refused")
    finally:
        os.chdir(root)


def main() -> None:
    """Until standard input ends."""
    root = Path(sys.argv[1])
    world.stand_in(root)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.dont_write_bytecode = True
    asked = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a case that reads standard input finds nothing there
    for line in asked:
        told = json.loads(line)
        case = Case(**{**told, "needs": tuple(told["needs"])})
        print(json.dumps(outcome(case, root).__dict__), file=answers, flush=True)
        compiling.let_go_if_crowded(30_000)


if __name__ == "__main__":
    main()
