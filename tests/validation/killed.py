"""Kills a run at 20 random moments, resumes each, and counts those that end with the bits of the uninterrupted one.

    python tests/validation/killed.py [--kills 20] [--key 0]

A third of the moments are during steps, a third while a checkpoint is written, a third while the result is.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import killing

WORDS = """train --wirings pre post --depth 2 --width 16 --heads 2 --context 16 --batch 2 --steps 12 --seeds 2 --dropout 0.1
 --warmup 3 --clip 1 --optimizer adamw --checkpoint-every 3 --record every:2"""
RUN = WORDS.split()
CALLS = {"step": 26, "checkpoint": 10, "result": 1}  # how often a whole run comes to each place
DELAYS = {"step": 0.02, "checkpoint": 0.3, "result": 6.0}  # seconds, about what the place takes


def main() -> None:
    """Prints a line a kill, and the count."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--key", type=int, default=0)
    asked = options.parse_args()
    chance, equal, killed = random.Random(asked.key), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killing.run([*RUN, "--out", "whole"], folder)
        whole = killing.bits(folder / "whole")
        for i in range(asked.kills):
            place = killing.PLACES[i % len(killing.PLACES)]
            call, delay = chance.randint(1, CALLS[place]), chance.uniform(0, DELAYS[place])
            again = [*RUN, "--out", str(i), "--resume"]
            died = killing.run(again, folder, place, call, delay) != 0
            if died:
                killing.run(again, folder)
            same = killing.bits(folder / str(i)) == whole
            killed, equal = killed + died, equal + same
            how = "killed and resumed" if died else "it had finished before"
            print(
                f"{place}, call {call}, after {delay:.3f} s: {how}: {'the same bits' if same else 'OTHER BITS'}",
                flush=True,
            )
    print(f"{equal} of {asked.kills} runs end with the bits of the uninterrupted one; {killed} were killed")


if __name__ == "__main__":
    main()
