"""The folder a run leaves: results, figures with their tables, an appendix, and a manifest written before the run.

    manifest.json   configuration, provenance; when all is done, the SHA-256 of every other file
    results.nc      the labelled tree, readable with xarray
    figures/        PDF, PNG and the CSV behind each
    tables/         summary.txt, results.csv, laws.csv, total_depth.csv, total_depth_laws.csv
    appendix.tex    compiles with pdflatex in this folder

`results.folder` makes it, and keeps an interrupted run from leaving a half-written file.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr

from ..results.arguments import answering, shown
from ..results.folder import filled
from ..results.naming import stem
from ..results.stored import save
from ..results.tree import check_tree, on_its_own, settings
from . import plot, tables
from .gallery import figures, log_figures
from .tables import atlas, atlas_page, fits
from .tables.outcome import Outcome, outcome
from .text import appendix, logs, summary


@answering()
def write(
    run: xr.DataTree,
    out: str | Path,
    *,
    sweep: xr.DataTree | None = None,
    theory: xr.DataTree | None = None,
    configuration: dict | None = None,
) -> Path:
    """Writes the complete report of a run and returns its folder; see the head of this module.

    Parameters
    ----------
    run : what `measure` or `train` returned; or `gf.logged`, whose report has the profile over layers, and no sweep and theory
    out : a folder that is new, empty, or holds an earlier result of the same configuration
    sweep : what `gf.sweep` returned, for the figure against total depth
    theory : what `gf.predict` returned of the same models, for the figure of theory over measurement at the start
    configuration : what makes the run again; by default what the results themselves carry
    """
    _check_results(run, sweep, theory)
    _check_configuration(configuration)
    described = configuration or _configuration_of(run)
    if tables.are_logs(run):
        return _write_logs(run, out, described)
    trees = {"training": on_its_own(run)}
    if sweep is not None:
        trees["sweep"] = on_its_own(sweep)
    if theory is not None:
        trees["theory"] = on_its_own(theory)
    with filled(out, described, settings(run).get("provenance", {})) as folder:
        save(_joined(trees), folder / "results.nc")
        captions = _save_figures(figures(run, sweep, theory), folder / "figures")
        computed = outcome(run, sweep)
        frames = _frames(run, sweep, computed)
        _save_tables(frames, summary.lines(run, sweep, computed=computed), folder / "tables")
        steps = tables.steps_of(run, (0, 10, 100))
        document = appendix.document(
            run, captions, results=frames["results"], laws=frames["laws"], steps=steps, configuration=described
        )
        (folder / "appendix.tex").write_text(document, encoding="utf-8")
    return Path(out)


def _check_results(run, sweep, theory) -> None:
    """Raises where the results are no trees, or where the run has no seeds or no stream gradient."""
    check_tree("run", run)
    if sweep is not None:
        check_tree("sweep", sweep)
    if theory is not None:
        check_tree("theory", theory)
    members = tables.nodes(run)
    if tables.are_logs(run) and not (sweep is None and theory is None):
        raise ValueError("norms that another tool logged have no sweep and no theory: leave sweep= and theory= out")
    for name, node in members.items():
        if "seed" not in node.sizes:
            raise ValueError(f"{name} has no seeds, as a theory has none: give a measurement, and this one as theory=")
    for name, node in members.items():
        if "stream_gradient" not in node and not tables.are_logs(run):
            raise ValueError(f"{name} has no stream gradient to report: measure it with quantities=('backward', …)")


def _write_logs(run: xr.DataTree, out: str | Path, described: dict) -> Path:
    """Writes the report of norms that other tools logged."""
    steps = logs.steps_of(run)
    with filled(out, described, settings(run).get("provenance", {})) as folder:
        save(on_its_own(run), folder / "results.nc")
        captions = _save_figures(log_figures(run, steps), folder / "figures")
        tabled = folder / "tables"
        tabled.mkdir()
        (tabled / "summary.txt").write_text("\n".join(logs.lines(run)) + "\n", encoding="utf-8")
        results = logs.results_table(run, tables.steps_of(run))
        laws = logs.law_rows(run, steps)
        results.to_csv(tabled / "results.csv", index=False)
        laws.to_csv(tabled / "laws.csv", index=False)
        document = appendix.document(run, captions, results=results, laws=laws, steps=steps, configuration=described)
        (folder / "appendix.tex").write_text(document, encoding="utf-8")
    return Path(out)


def _joined(trees: Mapping[str, xr.DataTree]) -> xr.DataTree:
    """Returns one tree with the given ones as children; its root has the attributes that all of them share.

    A single tree is returned unchanged.
    """
    first = trees["training"]
    if len(trees) == 1:
        return first
    shared = {}
    for name, value in first.attrs.items():
        if all(tree.attrs.get(name) == value for tree in trees.values()):
            shared[name] = value
    shared["provenance"] = first.attrs.get("provenance", "{}")
    return xr.DataTree(xr.Dataset(attrs=shared), children=trees)


@answering()
def write_atlas(tree: xr.DataTree, out: str | Path, *, configuration: dict | None = None) -> Path:
    """Writes the report of an atlas and returns its folder.

    It holds results.nc, figures/atlas (PDF, PNG, CSV) and tables/atlas (CSV, Markdown, a page that sorts). `out` and
    `configuration` as for `write`.
    """
    _check_configuration(configuration)
    check_tree("the atlas", tree)
    failed = settings(tree).get("failed", {})
    if "training" not in tree:
        why = ""
        for name, reason in failed.items():
            why = f": {name}, {reason}"
            break
        raise ValueError(f"the atlas has no wiring that came to its end{why}")
    described = configuration or {**_configuration_of(tree["training"]), "failed": failed}
    with filled(out, described, settings(tree).get("provenance", {})) as folder:
        save(tree, folder / "results.nc")
        points = atlas.points(tree)
        drawn = plot.atlas(tree, points=points)
        captions = _save_figures([("atlas", drawn, points)], folder / "figures")
        _save_atlas_tables(atlas.table(tree, points), captions["atlas"], folder / "tables")
    return Path(out)


def _check_configuration(configuration) -> None:
    if not isinstance(configuration, Mapping | NoneType):
        raise TypeError(f"configuration is {shown(configuration)}: a dict of names and values is needed")


def _configuration_of(run) -> dict:
    """Returns the configuration that results carry: how they were made, and every model."""
    configuration = dict(settings(run))
    configuration.pop("provenance", None)
    models = {}
    for name, node in tables.nodes(run).items():
        models[name] = json.loads(node.attrs.get("configuration", "null"))
    return {**configuration, "models": models}


def _save_figures(drawings: Iterable[tuple], folder: Path) -> dict[str, str]:
    """Saves every figure with its table and returns `{file stem: caption}`."""
    folder.mkdir()
    captions = {}
    for name, drawn, table in drawings:
        file_stem = stem(name)
        plot.save(drawn, folder / f"{file_stem}.pdf", table)
        captions[file_stem] = str(drawn.get_label())
        if isinstance(drawn, plt.Figure):
            plt.close(drawn)
        else:
            plt.close(drawn.figure)
    return captions


def _frames(run, sweep, computed: Outcome) -> dict[str, pd.DataFrame]:
    """Returns the tables of a run and its sweep by the stems of their files."""
    frames = {
        "results": appendix.results_table(computed.ends, tables.steps_of(run)),
        "laws": fits.law_rows(computed.laws),
    }
    if sweep is not None:
        frames["total_depth"] = tables.total_depth(sweep)
        frames["total_depth_laws"] = fits.law_rows(computed.total_depth_laws)
    return frames


def _save_tables(frames: Mapping[str, pd.DataFrame], sentences: list[str], folder: Path) -> None:
    folder.mkdir()
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    text = "\n".join(sentences) + "\n"
    (folder / "summary.txt").write_text(text, encoding="utf-8")


def _save_atlas_tables(table, caption: str, folder: Path) -> None:
    folder.mkdir()
    table.to_csv(folder / "atlas.csv", index=False)
    (folder / "atlas.md").write_text(atlas_page.markdown(table), encoding="utf-8")
    (folder / "atlas.html").write_text(atlas_page.page(table, caption), encoding="utf-8")
