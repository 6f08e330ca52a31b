"""The folder of a published figure made again: its numbers, its figure with the data behind it, and the report as text."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from ..results.folder import filled
from ..results.reproduction import Reproduction
from . import plot


def write(report: Reproduction, out: str | Path, configuration: dict, provenance: dict) -> Path:
    """Writes `numbers.csv` (what was published, ours, the outcome), `figure.pdf`, `.png` and `.csv`, and `report.txt`.

    Returns the folder; every file in it is whole, and listed in its manifest.

    Errors: as `results.folder.filled`.
    """
    with filled(out, configuration, provenance) as folder:
        drawn = plot.reproduction(report)
        plot.save(drawn, folder / "figure", report.curves)
        figure: Any = drawn.figure
        plt.close(figure)
        report.numbers.to_csv(folder / "numbers.csv", index=False)
        (folder / "report.txt").write_text(f"{report}\n", encoding="utf-8")
    return Path(out)
