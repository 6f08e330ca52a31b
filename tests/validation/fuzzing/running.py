"""Running cases: what came of each, in worker processes that are used again and again and replaced when they end or hang.

refused    an error that the library raised on purpose: at most three lines, short; a command left with exit code 2
right      it ran, and the check held
raw        any other error or exit code, a long message, a traceback on the screen, the end of the process
wrong      the check failed, something impossible was accepted, or something valid refused
hung       no end within the limit
"""

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .cases import EITHER, REFUSED, RIGHT, Case

OUTCOMES = ("refused", "right", "raw", "wrong", "hung")
LIMIT = 60.0  # seconds of computing that a case may take: of waiting for other processes there may be more
GRACE = 30.0  # seconds of computing beyond it, until the process is ended from outside
PREPARING = 120.0  # and for what a case needs
IDLE = 120.0  # seconds without computing, likewise
LINES, CHARACTERS = 3, 500


@dataclass(frozen=True)
class Outcome:
    """What came of a case, and a line about it."""

    name: str
    outcome: str
    detail: str
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        """Whether it is as it should be."""
        return self.outcome in (REFUSED, RIGHT)


def verdict(expected: str, refused: bool, detail: str) -> tuple[str, str]:
    """The outcome of a case that was refused or ran, beside what was expected."""
    if refused:
        return ("wrong", f"refused, though valid: {detail}") if expected == RIGHT else (REFUSED, detail)
    return ("wrong", "accepted, though impossible") if expected == REFUSED else (RIGHT, "")


def clear(message: str) -> str:
    """What is wrong with an error's message, if anything."""
    lines = message.strip().splitlines()
    if not lines:
        return "an error without a message"
    if len(lines) > LINES:
        return f"a message of {len(lines)} lines"
    return f"a message of {len(message)} characters" if len(message) > CHARACTERS else ""


class Worker:
    """A process that runs cases one by one (`worker.py`), and is begun again when it is lost."""

    def __init__(self, root: Path):
        self.root, self.process = root, None

    def begin(self) -> None:
        """Starts the process."""
        from . import worker

        tests = Path(__file__).parent.parent.parent
        quiet = {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg", "JAX_ENABLE_X64": "0"}
        path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, worker.__file__, str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **quiet, "PYTHONPATH": path},
            text=True,
        )

    def run(self, case: Case, again: bool = True) -> Outcome:
        """What came of a case; with `again`, one that ended the process is tried once more in a fresh one."""
        fresh = self.process is None
        if fresh:
            self.begin()
        begun = time.monotonic()
        try:
            self.process.stdin.write(json.dumps(asdict(case)) + "\n")
            self.process.stdin.flush()
            answer = self._answer(case)
        except BrokenPipeError:
            answer = ""
        spent = time.monotonic() - begun
        if answer:
            return Outcome(**json.loads(answer))
        code = self._end()
        if code is None:
            return Outcome(case.name, "hung", "no end, and no answer", spent)
        if not fresh and again:  # what an earlier case left behind is not this one's fault
            return self.run(case, again=False)
        return Outcome(case.name, "raw", f"the process ended with code {code}", spent)

    def _answer(self, case: Case) -> str:
        """The line that the worker writes; empty where it ended, or has computed, or done nothing, for too long."""
        allowed = self._computed() + LIMIT + GRACE + PREPARING * len(case.needs)
        patience = IDLE * (1 + 4 * len(case.needs))  # another process may be making what it needs
        before, since = self._computed(), time.monotonic()
        while not select.select([self.process.stdout], [], [], 5.0)[0]:
            spent = self._computed()
            if spent > before:
                before, since = spent, time.monotonic()
            if spent > allowed or time.monotonic() - since > patience:
                return ""
        return self.process.stdout.readline()

    def _computed(self) -> float:
        """Seconds that the process has computed."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _end(self) -> int | None:
        """The exit code of the process, None where it still runs: then it is ended."""
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
            self.process.kill()
            self.process.wait()
        self.close()
        return code

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.kill()
            self.process.wait()
        self.process = None


def run(chosen: Sequence[Case], root: Path, jobs: int = 1) -> Iterator[Outcome]:
    """What came of every case, as they are done, by so many processes."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    done: queue.SimpleQueue = queue.SimpleQueue()
    for case in chosen:
        waiting.put(case)

    def work() -> None:
        worker = Worker(root)
        try:
            while True:
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                done.put(worker.run(case))
        finally:
            worker.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for _ in chosen:
        yield done.get()


def counted(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """`{kind: {outcome: count}}`."""
    kinds = dict.fromkeys(one.name.rpartition("-")[0] for one in outcomes)
    table = {kind: dict.fromkeys(OUTCOMES, 0) for kind in kinds}
    for one in outcomes:
        table[one.name.rpartition("-")[0]][one.outcome] += 1
    return table


__all__ = ["EITHER", "LIMIT", "Outcome", "Worker", "clear", "counted", "run", "verdict"]
