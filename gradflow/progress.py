"""A bar for what says nothing before it is done, as a compiled program does: it runs with the clock, toward an estimate.

    with Waiting("measure") as bar:
        bar.expect(12.0)        # measure, about 12 s:  40%|████      | 00:05
        ...

It shows after two seconds, and is gone at the end. Inside of another bar none is shown.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

DELAY = 2.0  # seconds without a bar
PACE = 0.5  # seconds between two looks at the clock
FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
UNKNOWN = "{desc}: {elapsed}"
SHOWN = threading.Lock()  # held by the one bar that is shown


def about(seconds: float) -> str:
    """Returns an estimate in words, of two digits: no estimate here has three.

    >>> about(11.7), about(0.26)
    ('about 12 s', 'about 0.26 s')
    """
    return f"about {float(f'{seconds:.2g}'):g} s"


@contextmanager
def counting(total: int, unit: str, what: str | None = None) -> Iterator[tqdm]:
    """A bar of what can be counted, steps or wirings; it shows after a second."""
    alone = SHOWN.acquire(blocking=False)
    try:
        with tqdm(total=total, desc=what, unit=unit, delay=1, leave=False, disable=not alone) as bar:
            yield bar
    finally:
        if alone:
            SHOWN.release()


def silence() -> None:
    """Has this process show no bars: what works for another one that shows its own."""
    SHOWN.acquire(blocking=False)


class Waiting:
    """A bar that a thread draws until the block ends: by the share of the expected seconds that went by, all but the last."""

    def __init__(self, what: str):
        self.what, self.seconds = what, 0.0
        self._started = time.monotonic()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def expect(self, seconds: float) -> None:
        """Says how long all of it is estimated to take from the start."""
        self.seconds = seconds

    def __enter__(self) -> "Waiting":
        if SHOWN.acquire(blocking=False):
            self._thread = threading.Thread(target=self._draw, name="bar", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            SHOWN.release()

    def _draw(self) -> None:
        if self._done.wait(DELAY):
            return
        with tqdm(total=1.0, leave=False, bar_format=UNKNOWN) as bar:
            bar.start_t -= time.monotonic() - self._started
            while True:
                self._show(bar)
                if self._done.wait(PACE):
                    return

    def _show(self, bar: tqdm) -> None:
        """Draws the bar as it is now."""
        bar.set_description_str(self.what, refresh=False)
        if self.seconds:
            bar.bar_format = FORMAT
            bar.set_description_str(f"{self.what}, {about(self.seconds)}", refresh=False)
            bar.n = min((time.monotonic() - self._started) / self.seconds, 0.99)
        bar.refresh()
