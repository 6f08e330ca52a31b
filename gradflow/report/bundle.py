"""The folder a run leaves: results, figures with their tables, an appendix, and a manifest written before the run.

    manifest.json   configuration, provenance; when all is done, the SHA-256 of every other file
    results.nc      the labelled tree, readable with xarray
    figures/        PDF, PNG and the CSV behind each
    tables/         summary.txt, results.csv, laws.csv, total_depth.csv, total_depth_laws.csv
    appendix.tex    compiles with pdflatex where it lies

`results.folder` makes it, and keeps an interrupted run from leaving anything half-written.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import xarray as xr

from ..results.arguments import answering
from ..results.arguments import shown as in_brief
from ..results.folder import filled
from ..results.naming import stem
from ..results.quantities import TERMS
from ..results.stored import save
from ..results.tree import check_tree, on_its_own, settings
from . import plot, tables
from .tables import atlas, fits, jacobians
from .text import appendix, summary


@answering()
def write(
    run: xr.DataTree,
    out: str | Path,
    *,
    sweep: xr.DataTree | None = None,
    theory: xr.DataTree | None = None,
    configuration: dict | None = None,
) -> Path:
    """The folder, complete; see the head of this module.

    Parameters
    ----------
    run : what `measure` or `train` returned
    out : a folder that is new, empty, or holds an earlier result of the same configuration
    sweep : what `gf.sweep` returned, for the figure against total depth
    theory : what `gf.predict` returned of the same models, for the figure of theory over measurement at the start
    configuration : what makes the run again; by default what the results themselves carry
    """
    for name, tree in {"run": run, "sweep": sweep, "theory": theory}.items():
        if tree is not None or name == "run":
            check_tree(name, tree)
    bare = [name for name, node in tables.nodes(run).items() if "stream_gradient" not in node]
    seedless = [name for name, node in tables.nodes(run).items() if "seed" not in node.sizes]
    if seedless:
        raise ValueError(
            f"{seedless[0]} has no seeds, as a theory has none: give a measurement, and this one as theory="
        )
    if bare:
        raise ValueError(f"{bare[0]} has no stream gradient to report: measure it with quantities=('backward', …)")
    _check_configuration(configuration)
    plain = configuration or _carried(run)
    with filled(out, plain, settings(run).get("provenance", {})) as made:
        parts = {"training": run, "sweep": sweep, "theory": theory}
        save(
            _together({name: on_its_own(tree) for name, tree in parts.items() if tree is not None}), made / "results.nc"
        )
        shown = _figures(figures(run, sweep, theory), made / "figures")
        _tables(run, sweep, made / "tables")
        steps = tables.steps_of(run, (0, 10, 100))
        (made / "appendix.tex").write_text(
            appendix.document(run, shown, steps=steps, configuration=plain), encoding="utf-8"
        )
    return Path(out)


def _together(trees: dict[str, xr.DataTree]) -> xr.DataTree:
    """One tree of several, each with its own attributes, the root with those that all have; a single one as it is."""
    first = trees["training"]
    if len(trees) == 1:
        return first
    shared = {
        name: value
        for name, value in first.attrs.items()
        if all(tree.attrs.get(name) == value for tree in trees.values())
    }
    return xr.DataTree(xr.Dataset(attrs={**shared, "provenance": first.attrs.get("provenance", "{}")}), children=trees)


@answering()
def write_atlas(tree: xr.DataTree, out: str | Path, *, configuration: dict | None = None) -> Path:
    """The folder of an atlas: results.nc, figures/atlas (PDF, PNG, CSV), tables/atlas (CSV, Markdown, a page that sorts).

    `out` and `configuration` as for `write`.
    """
    _check_configuration(configuration)
    check_tree("the atlas", tree)
    if "training" not in tree:
        why = [f": {name}, {reason}" for name, reason in settings(tree).get("failed", {}).items()][:1]
        raise ValueError(f"the atlas has no wiring that came to its end{''.join(why)}")
    plain = configuration or {**_carried(tree["training"]), "failed": settings(tree).get("failed", {})}
    with filled(out, plain, settings(tree).get("provenance", {})) as made:
        save(tree, made / "results.nc")
        found = atlas.points(tree)
        caption = _figures([("atlas", plot.atlas(tree, points=found), found)], made / "figures")["atlas"]
        frame, place = atlas.table(tree, found), made / "tables"
        place.mkdir()
        frame.to_csv(place / "atlas.csv", index=False)
        (place / "atlas.md").write_text(atlas.markdown(frame), encoding="utf-8")
        (place / "atlas.html").write_text(atlas.page(frame, caption), encoding="utf-8")
    return Path(out)


def _check_configuration(configuration) -> None:
    if not isinstance(configuration, Mapping | NoneType):
        raise TypeError(f"configuration is {in_brief(configuration)}: a dict of names and values is needed")


def _carried(run) -> dict:
    """What the results say of themselves: how they were made, and every model."""
    made = {name: value for name, value in settings(run).items() if name != "provenance"}
    models = {name: node.attrs.get("configuration", "null") for name, node in tables.nodes(run).items()}
    return {**made, "models": {name: json.loads(text) for name, text in models.items()}}


def _figures(drawn_ones: Iterable[tuple], folder: Path) -> dict[str, str]:
    """Every figure saved with its table under the stem of its name; `{stem: caption}`."""
    folder.mkdir()
    captioned = {}
    for name, drawn, table in drawn_ones:
        plot.save(drawn, folder / f"{stem(name)}.pdf", table)
        captioned[stem(name)] = str(drawn.get_label())
        plt.close(drawn if isinstance(drawn, plt.Figure) else drawn.figure)
    return captioned


def figures(run, sweep=None, theory=None) -> Iterator[tuple]:
    """`(name, figure, table)` of everything there is to show of a run."""
    steps, ends = tables.steps_of(run, (0, 10, 100)), tables.steps_of(run, (0, 25))
    if sweep is not None and steps:
        yield "comparison", plot.comparison(run, sweep), _comparison_table(run, sweep, steps, ends)
    shown: dict[str, Any] = {"relative_to": "readout", "steps": steps}
    yield "stream_gradient", plot.profile(run, **shown), tables.profile(run, "stream_gradient", **shown)
    if theory is not None:
        beside: dict[str, Any] = {"relative_to": "readout", "theory": theory}
        yield "theory", plot.profile(run, **beside), tables.profile(run, "stream_gradient", **beside)
    for name, node in tables.nodes(run).items():
        if "budget" in node:
            yield f"budget_{name}", plot.budget(node, steps=ends), tables.budget_from_top(node, steps=ends)
        if steps:
            yield f"heatmap_{name}", plot.heatmap(node), tables.heat(node).to_dataframe().reset_index()
    if settings(run).get("weights") == "given":
        yield from moment_figures(run)
    if sweep is not None:
        yield "total_depth", plot.total_depth(sweep), tables.total_depth(sweep)
    for step in steps[::2] or (None,):
        yield from jacobian_figures(run, step)


# What a stream looks like, its tokens, what a fork shares out, and a probe: a file's name, a quantity, and its one entry.
MOMENT: tuple[tuple[str, str, dict], ...] = (
    ("stream_rms", "stream_rms", {}),
    ("token_cosine", "token_cosine", {}),
    ("branch_to_skip", "branch_to_skip", {}),
    *((f"split_{term}", "split", {"term": term}) for term in TERMS),
    ("partial_jacobian", "partial_jacobian", {"probe": "isotropic"}),
)


def moment_figures(run) -> Iterator[tuple]:
    """`(name, figure, table)` of given weights, of which one moment is all there is: signal, split and partial Jacobian.

    What is zero everywhere, as the share of gains that nothing reads, has no figure.
    """
    for name, quantity, where in MOMENT:
        if all(quantity in node for node in tables.nodes(run).values()):
            table = tables.profile(run, quantity, **where)
            if table["mean"].fillna(0).any():
                yield name, plot.profile(run, quantity, **where), table


def jacobian_figures(run, step=None) -> Iterator[tuple]:
    """`(name, figure, table)` of what was read of Jacobians, at one recorded step."""
    at, members = "" if step is None else f"_step_{step}", tables.nodes(run)
    for name, node in members.items():
        if "jacobian_gain" in node:
            bands, factors = (make(node, step=step) for make in (jacobians.bands, jacobians.factors))
            yield f"spectrum_bands_{name}{at}", plot.spectrum_bands(node, step=step), bands
            yield f"factors_{name}{at}", plot.factors(node, step=step), factors
    for name, quantity in (("exponents", "lyapunov_exponent"), ("alignment", "cotangent_share")):
        if all(quantity in node for node in members.values()):
            yield f"{name}{at}", getattr(plot, name)(run, step=step), getattr(jacobians, name)(run, step=step)


def _comparison_table(run, sweep, steps, ends):
    """The tables of the four panels, one below the other, told apart by `panel`."""
    panels = {
        "a": tables.profile(run, "stream_gradient", relative_to="readout", steps=steps),
        "b": tables.total_depth(sweep),
        "c": tables.budget_totals(run, steps=ends),
        "d": tables.training(run),
    }
    return pd.concat([frame.assign(panel=panel) for panel, frame in panels.items()], ignore_index=True)


def _tables(run, sweep, folder: Path) -> None:
    folder.mkdir()
    (folder / "summary.txt").write_text("\n".join(summary.lines(run, sweep)) + "\n", encoding="utf-8")
    steps = tables.steps_of(run)
    appendix.results_table(run, steps).to_csv(folder / "results.csv", index=False)
    fits.law_rows(fits.law_choices(run)).to_csv(folder / "laws.csv", index=False)
    if sweep is not None:
        tables.total_depth(sweep).to_csv(folder / "total_depth.csv", index=False)
        fits.law_rows(fits.total_depth_laws(sweep)).to_csv(folder / "total_depth_laws.csv", index=False)
