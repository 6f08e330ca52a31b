"""Figures as files: PDF and PNG, each with its caption and the mark of its numbers, and the CSV that holds these."""

import csv
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...results.arguments import of_class
from ...results.files import as_path
from .canvas import styled

ENDINGS = (".pdf", ".png", ".csv")
SHAPING = ("GDEF", "GPOS", "GSUB")  # tables of a font: to read them takes longer than the glyphs


@styled
def save(drawn: Figure | Axes, path: str | Path, table: pd.DataFrame) -> list[Path]:
    """Writes `path` with .pdf, .png and .csv: the picture, and its table; the caption is in all three. Returns the paths.

    One of these endings may be there already; other dots belong to the name.
    """
    of_class("drawn", drawn, Figure | Axes)
    of_class("table", table, pd.DataFrame)
    path = as_path(path)
    name = path.name
    if path.suffix in ENDINGS:
        name = path.name[: -len(path.suffix)]
    pdf, png, text = [path.with_name(name + ending) for ending in ENDINGS]
    rows = csv_text(drawn, table)
    save_picture(drawn, path.with_name(name), rows)
    text.write_text(rows, encoding="utf-8")
    return [pdf, png, text]


@styled
def save_picture(drawn: Figure | Axes, path: Path, table: str) -> None:
    """Writes the picture as .pdf and .png; both have the caption, and the SHA-256 of the CSV text behind them."""
    whole: Any = drawn if isinstance(drawn, Figure) else drawn.figure
    caption = _caption(drawn)
    data = data_mark(table)
    metadata = {"Subject": caption, "Keywords": data, "CreationDate": None}
    with _glyphs_alone():
        whole.savefig(path.with_name(path.name + ".pdf"), metadata=metadata)
    with _laid_out(whole):
        whole.savefig(path.with_name(path.name + ".png"), metadata={"Description": caption, "Comment": data})


@contextmanager
def _glyphs_alone() -> Iterator[None]:
    """Has fonts embedded without the tables of `SHAPING`, which no reader of a PDF, where glyphs are placed, looks at."""
    dropped = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*dropped, *SHAPING]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = dropped


@contextmanager
def _laid_out(whole: Figure) -> Iterator[None]:
    """Sets the layout engine of a figure aside: what was laid out stays as it is, which a second picture needs no time for."""
    engine = whole.get_layout_engine()
    if engine is not None:
        whole.set_layout_engine(None)
    try:
        yield
    finally:
        if engine is not None:
            whole.set_layout_engine(engine)


def csv_text(drawn: Figure | Axes, table: pd.DataFrame) -> str:
    """Returns the CSV behind a figure: its caption as a comment, then the table."""
    rows = table.to_csv(index=False)
    if "#" in rows:  # in quotes it begins no comment
        rows = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    return f"# {_caption(drawn)}\n{rows}"


def data_mark(text: str) -> str:
    """Returns what a picture says of the CSV text that it was drawn from."""
    return f"data-sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _caption(drawn: Figure | Axes) -> str:
    return " ".join(str(drawn.get_label()).split())
