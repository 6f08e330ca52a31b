"""Rows of a record, `{key: value}` each, wherever they are: in memory, in a table, in a file of CSV, JSON or JSON lines."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...results.arguments import shown
from ...results.files import printable, reason, regular

Row = dict[str, Any]
KINDS = (
    "a dictionary {key: number}, an iterable of such dictionaries, a pandas.DataFrame, "
    "or the path of a file of CSV, JSON or JSON lines"
)


@dataclass(frozen=True)
class Rows:
    """Rows, the `name` of where they are from, and the `source` for the record: the file and its SHA-256."""

    rows: list[Row]
    name: str
    source: dict[str, str]


def rows_of(record: Any) -> Rows:
    """Returns the rows of a record.

    Errors: OSError for a file that can't be read; ValueError for one that holds no rows; TypeError for another object.
    """
    if isinstance(record, str | Path):
        return _of_file(regular(record))
    if isinstance(record, pd.DataFrame):
        return Rows(_checked(record.to_dict("records"), "the table"), "a table in memory", {})
    if isinstance(record, Mapping):
        return Rows(_checked([record], "the record"), "a dictionary in memory", {})
    if isinstance(record, Iterable) and not isinstance(record, bytes):
        return Rows(_checked(record, "the record"), "rows in memory", {})
    raise TypeError(f"the record is {shown(record)}: {KINDS} is needed")


def _of_file(path: Path) -> Rows:
    """Returns the rows in a file: JSON where it begins with a bracket, else CSV."""
    content = path.read_bytes()
    name = printable(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no text in UTF-8: a file of CSV, JSON or JSON lines is needed") from None
    if not text.strip():
        raise ValueError(f"{name} is empty: rows of CSV, JSON or JSON lines are needed")
    parse = _json if text.lstrip()[0] in "[{" else _csv
    rows = _checked(parse(text, name), name)
    file = printable(path.name)
    return Rows(rows, file, {"file": file, "sha256": hashlib.sha256(content).hexdigest()})


def _json(text: str, name: str) -> list:
    """Returns the rows of an array of objects, of one object, or of an object a line."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return _json_lines(text, name)
    return whole if isinstance(whole, list) else [whole]


def _json_lines(text: str, name: str) -> list:
    """Returns an object for every line that is not empty."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{name} is no JSON ({reason(error)}; read as a file with a row a line, line {number}): "
                "cut the broken line out, or write the rows anew"
            ) from None
    return rows


def _csv(text: str, name: str) -> list[Row]:
    """Returns a row for every line below the header."""
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[Row] = []
    try:
        header = next(reader)
        _check_header(header, name)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{name}, line {reader.line_num}, has {len(cells)} cells, its header {len(header)}: "
                    "cut the broken line out, or write the table anew"
                )
            rows.append(dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise ValueError(f"{name} is no CSV ({reason(error)}): a file of CSV, JSON or JSON lines is needed") from None
    return rows


def _check_header(header: list[str], name: str) -> None:
    """Raises for a header of one name, as any text has it, and for two columns of one name."""
    if len(header) < 2:
        raise ValueError(f"{name} is neither JSON nor a table of CSV: a file of CSV, JSON or JSON lines is needed")
    for key, columns in Counter(header).items():
        if columns > 1:
            raise ValueError(
                f"{name} has {columns} columns {shown(key)}: rename them, or read each run from its own file"
            )


def _checked(rows: Iterable, name: str) -> list[Row]:
    """Returns the rows with texts as keys; the parts of a key that is a tuple, as Flax flattens, are joined by `/`."""
    checked = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"a row of {name} is {shown(row)}: {KINDS} is needed")
        checked.append({_key(key): value for key, value in row.items()})
    if not checked:
        raise ValueError(f"{name} has no rows: {KINDS} is needed")
    return checked


def _key(key: Any) -> str:
    """Returns a key as a text that every file can hold."""
    text = "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return text.replace("\0", "").encode("utf-8", "backslashreplace").decode()
