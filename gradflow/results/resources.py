"""What a run took: wall time, processor time and peak memory; and the machine it ran on."""

import platform
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

NAMES = ("wall_seconds", "cpu_seconds", "peak_memory_bytes")


class Clock:
    """A clock that starts when it is made."""

    def __init__(self):
        self.wall = time.perf_counter()
        self.cpu = time.process_time()

    def used(self) -> dict[str, Any]:
        """Returns seconds and processor seconds (of all threads) since the start, and the process's peak memory in bytes.

        Memory is None where the system doesn't say.
        """
        return {
            "wall_seconds": round(time.perf_counter() - self.wall, 3),
            "cpu_seconds": round(time.process_time() - self.cpu, 3),
            "peak_memory_bytes": _peak(),
        }


def _peak() -> int | None:
    """Returns the largest resident memory of this process, which macOS counts in bytes and Linux in KiB."""
    if resource is None:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest if sys.platform == "darwin" else 1024 * largest)


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what several parts took, one after the other: the sum of the times and the largest peak.

    A part that does not say it is left out; empty where none does.
    """
    told = [part for part in parts if part]
    if not told:
        return {}
    peaks = [part["peak_memory_bytes"] for part in told if part.get("peak_memory_bytes")]
    return {
        "wall_seconds": round(sum(part["wall_seconds"] for part in told), 3),
        "cpu_seconds": round(sum(part["cpu_seconds"] for part in told), 3),
        "peak_memory_bytes": max(peaks, default=None),
    }


def processor() -> str:
    """Returns the model of the processor, as the system names it; its architecture where it has no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, model = line.partition(":")
        if name.strip() == "model name":
            return " ".join(model.split())
    return platform.processor() or platform.machine()
