"""The files of a bundle as a function of its contents, for those that write and those that verify: texts, and drawings."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd

from ...results.naming import stem
from .. import plot, tables
from ..gallery import figures, log_figures
from ..paper import body, hyperparameters, macros, references
from ..plot import saving, setting
from ..tables import atlas, atlas_page, fits, numbers
from ..tables.outcome import outcome
from ..tables.ways import ways
from ..text import captions, families, logs, summary
from . import checklist, crate, readme
from .contents import Contents

WHAT = {
    "README.md": "what this is, and how it is verified",
    "manifest.json": "configuration, provenance, and the SHA-256 of every file",
    "environment.lock": "every installed distribution with its version",
    "results.nc": "all numbers, labelled; every variable with its checksum",
    "body.tex": "what a paper includes",
    "appendix.tex": "the same as a document of its own",
    "numbers.tex": "a macro for every number that is printed",
    "hyperparameters.tex": "every value of the runs, what they took, and on what",
    "gradflow.bib": "entries for what was used",
    "checklist.md": "what venues and artifact evaluations ask",
    crate.METADATA: "the same for archives and machines",
    "tables/summary.txt": "the findings in sentences",
    "tables/results.csv": "gradient at the bottom, budget and loss of every recorded step",
    "tables/laws.csv": "laws over depth with their exponents",
    "tables/total_depth.csv": "the last gradient against the number of blocks",
    "tables/total_depth_laws.csv": "its laws",
    "tables/families.csv": "which way the gradient goes under each wiring, by family",
    "tables/atlas.csv": "every wiring in numbers",
    "tables/atlas.md": "every wiring in a table",
    "tables/atlas.html": "a page that sorts",
}
FORMATS = (".pdf", ".png")  # of a figure


class Picture(NamedTuple):
    """A figure while it is drawn: the stem of its files, the drawing, the CSV behind it, and its caption."""

    name: str
    drawn: Any
    table: str
    caption: str


def not_kept(picture: Picture) -> None:
    """Does nothing with a picture, for those who want its numbers and its caption alone."""


def files_of(
    contents: Contents, others: Iterable[str] = (), *, take: Callable[[Picture], None] = not_kept
) -> dict[str, str]:
    """Returns the text of every text file that follows from the contents, by path.

    `take` is called with every picture while it is open; `others` are the paths of files that follow from nothing here, such as
    the text that was read.
    """
    made, frames = _tables(contents)
    figure_captions = {}
    with setting.drawn_at(contents.record.width, contents.record.style):
        for picture in _pictures(contents):
            take(picture)
            plt.close(picture.drawn if isinstance(picture.drawn, plt.Figure) else picture.drawn.figure)
            figure_captions[picture.name] = picture.caption
            made[f"figures/{picture.name}.csv"] = picture.table
    sections = readme.rows(contents)
    keys = references.cited(contents.run)
    material = body.Material(
        _trees(contents),
        frames,
        figure_captions,
        keys,
        str(contents.record.provenance.get("command", "")),
    )
    version = str(contents.record.provenance.get("gradflow", ""))
    made |= {
        "environment.lock": readme.lock(contents),
        "numbers.tex": macros.document(frames),
        "hyperparameters.tex": hyperparameters.document(sections),
        "body.tex": body.document(material),
        "appendix.tex": body.APPENDIX,
        "gradflow.bib": references.document([key for each in keys.values() for key in each], version),
    }
    listed = _listed([*made, *others], figure_captions)
    made["README.md"] = readme.document(contents, sections, listed)
    made["checklist.md"] = checklist.document(contents, sections, listed)
    made[crate.METADATA] = crate.document(contents, {name: listed[name] for name in listed if name != crate.METADATA})
    return dict(sorted(made.items()))


def _trees(contents: Contents) -> list[Any]:
    """Returns the trees whose conditions captions tell, the run first."""
    if contents.record.kind == "atlas":
        return [contents.run]
    return list(contents.trees.values())


def _listed(names: Iterable[str], pictures: Mapping[str, str]) -> dict[str, str]:
    """Returns `{path: what it is}` of every file, sorted; `pictures` are the captions of the figures by name."""
    found = {name: WHAT.get(name, _kind(name)) for name in names}
    for name in ("manifest.json", "results.nc", "README.md", "checklist.md", crate.METADATA):
        found[name] = WHAT[name]
    for name, caption in pictures.items():
        lead = caption.split(". ")[0].rstrip(".")
        for ending in FORMATS:
            found[f"figures/{name}{ending}"] = lead
        found[f"figures/{name}.csv"] = f"the numbers behind it: {lead}"
    return dict(sorted(found.items()))


def _kind(name: str) -> str:
    """Returns what a file of a folder is."""
    if name.startswith("text/"):
        return "the text that was read"
    return "a table"


def _pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the figures of the contents; names of models become names of files."""
    for name, drawn, table in _drawings(contents):
        yield Picture(stem(name), drawn, saving.csv_text(drawn, table), " ".join(str(drawn.get_label()).split()))


def _drawings(contents: Contents) -> Iterator[tuple]:
    """Yields `(name, figure, table)` for every figure."""
    if contents.record.kind == "atlas":
        yield from _of_atlas(contents.trees["atlas"])
    elif contents.record.kind == "logs":
        yield from log_figures(contents.run, logs.steps_of(contents.run))
    else:
        yield from figures(contents.run, contents.part("sweep"), contents.part("theory"))


def _of_atlas(tree) -> Iterator[tuple]:
    """Yields the figure of all wirings, and one of every family where there are several."""
    points = atlas.points(tree)
    yield "atlas", plot.atlas(tree, points=points), points
    families_there = list(dict.fromkeys(points["family"]))
    if len(families_there) > 1:
        for family in families_there:
            yield f"atlas_{family}", plot.atlas(tree, family, points=points), points[points["family"] == family]


def _tables(contents: Contents) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """Returns the files of tables, and the tables whose numbers LaTeX prints."""
    if contents.record.kind == "atlas":
        return _atlas_tables(contents)
    if contents.record.kind == "logs":
        return _log_tables(contents)
    run, sweep = contents.run, contents.part("sweep")
    computed = outcome(run, sweep)
    frames = {"results": numbers.results(run, computed.ends), "laws": fits.law_rows(computed.laws)}
    if sweep is not None:
        frames["total_depth"] = tables.total_depth(sweep)
        frames["total_depth_laws"] = fits.law_rows(computed.total_depth_laws)
    return _written(frames, summary.lines(run, sweep, computed=computed)), frames


def _log_tables(contents: Contents) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """Returns the same of norms that other tools logged."""
    run = contents.run
    frames = {
        "results": logs.results_table(run, tables.steps_of(run)),
        "laws": logs.law_rows(run, logs.steps_of(run)),
    }
    return _written(frames, logs.lines(run)), frames


def _atlas_tables(contents: Contents) -> tuple[dict[str, str], dict[str, pd.DataFrame]]:
    """Returns the same of an atlas, whose one table is there in three forms."""
    tree = contents.trees["atlas"]
    points = atlas.points(tree)
    table = atlas.table(tree, points)
    conditions = captions.sentence(captions.setting(contents.run))
    sentences = [conditions, *families.of_tree(tree, points).values()]
    texts = {
        **_written({"atlas": table, "families": ways(points)}, sentences),
        "tables/atlas.md": atlas_page.markdown(table),
        "tables/atlas.html": atlas_page.page(table, conditions),
    }
    return texts, {"atlas": table}


def _written(frames: Mapping[str, pd.DataFrame], sentences: list[str]) -> dict[str, str]:
    """Returns tables as CSV and sentences as text."""
    texts = {f"tables/{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
    return {**texts, "tables/summary.txt": "\n".join(sentences) + "\n"}
