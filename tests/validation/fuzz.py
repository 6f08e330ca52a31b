"""Thousands of inputs that a user may hand over by mistake or on purpose: each is refused in a short line, or comes out right.

    python tests/validation/fuzz.py [--count 3200] [--seed 0] [--jobs 2] [--kinds command python batch file folder]
    python tests/validation/fuzz.py --case python-17        # one, with its traceback
    python tests/validation/fuzz.py --log runs.jsonl        # goes on where a killed one stopped
    python tests/validation/fuzz.py --out tests/validation/fuzz.csv

Prints how many were refused, came out right, or were raw, wrong or hung (`fuzzing/running.py`), and each of the latter.
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from validation.fuzzing import running
from validation.fuzzing.cases import KINDS, Case, cases
from validation.fuzzing.running import OUTCOMES, Outcome


def asked() -> argparse.Namespace:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=3200)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options.add_argument("--huge", action="store_true", help="also sizes that no machine has")
    options.add_argument("--case", help="run this one alone, here, with its traceback")
    options.add_argument("--log", type=Path, help="a file that keeps every outcome; those in it are not tried again")
    options.add_argument("--out", type=Path, help="a file for the table")
    return options.parse_args()


def tried(chosen: list[Case], options: argparse.Namespace, root: Path) -> Iterator[Outcome]:
    """What came of every case; those that the log knows first."""
    code = {case.name: case.code for case in chosen}
    known = remembered(options.log, code)
    yield from known.values()
    for outcome in running.run([case for case in chosen if case.name not in known], root, options.jobs):
        if options.log:
            with options.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**asdict(outcome), "code": code[outcome.name]}) + "\n")
        yield outcome


def remembered(log: Path | None, code: dict[str, str]) -> dict[str, Outcome]:
    """The outcomes in a log of cases that are still what they were."""
    if not log or not log.exists():
        return {}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    same = [line for line in lines if code.get(line["name"]) == line.pop("code")]
    return {line["name"]: Outcome(**line) for line in same}


def alone(case: Case, root: Path) -> None:
    """One case in this process."""
    from validation.fuzzing import worker

    print(f"{case.code}\nexpected: {case.expected}", flush=True)
    worker.alone(case, root)


def table(outcomes: list[Outcome]) -> list[list]:
    """A row a kind, and one of all."""
    rows = [[kind, *found.values(), sum(found.values())] for kind, found in running.counted(outcomes).items()]
    return [
        ["kind", *OUTCOMES, "all"],
        *rows,
        ["all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))],
    ]


def main() -> None:
    """Prints failures as they come, then the table; exit code 1 where there are any."""
    options, begun = asked(), time.monotonic()
    chosen = [case for case in cases(options.seed, options.count, options.kinds) if options.huge or not case.huge]
    if options.case:
        found = [case for case in cases(options.seed, options.count) if case.name == options.case]
        with tempfile.TemporaryDirectory(prefix="fuzz-") as root:
            return alone(found[0], Path(root)) if found else sys.exit(f"no case {options.case}")
    code, outcomes = {case.name: case.code for case in chosen}, []
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as root:
        for outcome in tried(chosen, options, Path(root)):
            outcomes.append(outcome)
            if not outcome.fine:
                words = " ".join(outcome.detail.split())[:300]
                print(f"{outcome.outcome:5} {outcome.name}  {code[outcome.name]}\n      {words}", flush=True)
    rows = table(outcomes)
    print("\n".join("".join(f"{cell!s:>9}" for cell in row) for row in rows))
    print(f"{time.monotonic() - begun:.0f} s, seed {options.seed}")
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    sys.exit(any(not outcome.fine for outcome in outcomes))


if __name__ == "__main__":
    main()
