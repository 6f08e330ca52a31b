"""Published figures and tables made again: what was published beside ours, with intervals and verdicts.

    python tests/validation/published.py [NAME ...] [--size full]

Without names all of them. Without `--size` each at full size, but for those of `QUICK`, which train or take many stacks and are
made at quick size. The table is written after every figure: rows of other names in it are kept.
"""

import argparse
from pathlib import Path

from gradflow.compiler import use_fast_compilation

use_fast_compilation()

import pandas as pd  # noqa: E402

import gradflow as gf  # noqa: E402

TABLE = Path(__file__).with_suffix(".csv")
QUICK = (
    "admin-amplification",
    "deepnet-constants",
    "completep-stream",
    "keel-largest-rate",
    "attention-threshold",
)
FIRST = ("name", "arxiv", "size", "verdict", "minutes")


def rows(report) -> pd.DataFrame:
    """One row a statement: the figure and its verdict in front."""
    facts = {
        "name": report.name,
        "arxiv": report.source.arxiv,
        "size": report.size,
        "verdict": report.verdict,
        "minutes": round(report.minutes, 1),
    }
    table = report.numbers.copy()
    for place, name in enumerate(FIRST):
        table.insert(place, name, facts[name])
    return table


def write(table: pd.DataFrame, names: list[str]) -> None:
    """Writes the table, rows in the order of the registry; earlier rows of these names are replaced."""
    if TABLE.exists():
        earlier = pd.read_csv(TABLE, dtype={"arxiv": str})  # 2512.24880 is no number
        table = pd.concat([earlier[~earlier["name"].isin(names)], table])
    order = {name: i for i, name in enumerate(gf.reproductions().index)}
    table = table.sort_values("name", key=lambda column: column.map(order), kind="stable")
    table.to_csv(TABLE, index=False, float_format="%.4g")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--size")
    asked = parser.parse_args()
    for name in asked.names or gf.reproductions().index:
        size = asked.size or ("quick" if name in QUICK else "full")
        report = gf.reproduce(name, size=size)
        print(report, flush=True)
        write(rows(report), [name])


if __name__ == "__main__":
    main()
