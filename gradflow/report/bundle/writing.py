"""A bundle is written: the results, then all that follows from them, in a hidden folder that takes its place when it is whole."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import xarray as xr

from ...progress import Waiting
from ...results import topics
from ...results.arguments import answering, shown
from ...results.configuration import encode
from ...results.files import as_path, printable
from ...results.folder import attempts, digest_of, filled, now
from ...results.provenance import distributions
from ...results.stored import load, save
from ...results.tree import check_tree, on_its_own, settings
from .. import tables
from ..plot import saving
from . import blind as blinding
from . import licences
from .contents import Contents
from .files import Picture, files_of
from .options import Options
from .record import BUNDLE, Record

RESULTS = "results.nc"


@answering(Options.of)
def write(
    run: xr.DataTree,
    out: str | Path,
    *,
    sweep: xr.DataTree | None = None,
    theory: xr.DataTree | None = None,
    configuration: dict | None = None,
    **options,
) -> Path:
    """Writes the complete bundle of a run and returns its folder; the head of `report.bundle` lists what is in it.

    Parameters
    ----------
    run : what `measure` or `train` returned; or `gf.logged`, whose report has the profile over layers, and no sweep and theory
    out : a folder that is new or empty, or holds an unfinished run of the same configuration
    sweep : what `gf.sweep` returned, for the figure against total depth
    theory : what `gf.predict` returned of the same models, for the figure of theory over measurement at the start
    configuration : what makes the run again; by default what the results themselves carry
    options : `width`, `style`, `blind` and `overwrite`, as `Options` has them
    """
    _check_results(run, sweep, theory)
    _check_configuration(configuration)
    trees = {"training": _bare(run)}
    if sweep is not None:
        trees["sweep"] = _bare(sweep)
    if theory is not None:
        trees["theory"] = _bare(theory)
    kind = "run"
    if tables.are_logs(run):
        kind = "logs"
    described = configuration or _configuration_of(run)
    return _write(kind, trees, Path(out), described, Options.of(**options))


@answering(Options.of)
def write_atlas(tree: xr.DataTree, out: str | Path, *, configuration: dict | None = None, **options) -> Path:
    """Writes the bundle of an atlas and returns its folder; its own table is there as CSV, Markdown and a page that sorts.

    Parameters as for `write`.
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
    trees = {"atlas": _bare(tree)}
    return _write("atlas", trees, Path(out), described, Options.of(**options))


@answering(Options.of)
def again(folder: str | Path, out: str | Path, **options) -> Path:
    """Makes the whole bundle of a folder again, from its `results.nc` alone, and returns the new folder.

    Without further options every file has the same bytes. A blind bundle stays blind.

    Parameters
    ----------
    folder : a bundle, or its `results.nc`
    out : another folder, that is new or empty
    options : as for `write`; width and style are by default those of the bundle
    """
    asked = Options.of(**options)
    contents = opened(folder)
    record = contents.record
    origin, target = as_path(folder), as_path(out)
    if origin.is_dir() and target.exists() and origin.samefile(target):
        raise FileExistsError(f"{printable(out)} is the bundle itself: name another folder")
    entries = dict(vars(record))
    if asked.width is not None:
        entries["width"] = asked.width
    if asked.style is not None:
        entries["style"] = asked.style
    entries["blind"] = record.blind or asked.blind
    contents = contents._replace(record=Record(**entries))
    if asked.blind:
        contents = _blind(contents)
    secrets = _secrets(record)
    return _fill(contents, target, record.configuration, asked.overwrite, secrets, text=origin / topics.FILE)


def opened(folder: str | Path) -> Contents:
    """Returns the contents of a bundle, given as its folder or its `results.nc`.

    Errors: OSError where there is none, or a damaged one; ValueError where it is no bundle's.
    """
    path = as_path(folder)
    if path.is_dir():
        path = path / RESULTS
    return Contents.of(load(path))


def _bare(tree: xr.DataTree) -> xr.DataTree:
    """Returns a copy of results with all their attributes, but for the record of a bundle that they come from."""
    copy = on_its_own(tree)
    copy.attrs.pop(BUNDLE, None)
    return copy


def _write(kind: str, trees: dict[str, xr.DataTree], out: Path, described: dict, options: Options) -> Path:
    """Writes a bundle of these trees."""
    provenance = settings(next(iter(trees.values()))).get("provenance", {})
    record = Record(
        kind=kind,
        parts=list(trees),
        configuration=encode(described),
        provenance=provenance,
        finished=now(),
        begun=attempts(out),
        environment=distributions(),
        width=options.width,
        style=options.style,
        blind=options.blind,
    )
    contents = Contents(trees, record)
    if options.blind:
        contents = _blind(contents)
    return _fill(contents, out, described, options.overwrite, _secrets(record))


def _fill(
    contents: Contents, out: Path, described: dict, overwrite: bool, secrets: Iterable[str], text: Path | None = None
) -> Path:
    """Writes all files of the contents; `text` is where the text that was read may lie."""
    record = contents.record
    entries = licences.manifest(contents)
    with Waiting("report"), filled(out, described, record.provenance, overwrite=overwrite, entries=entries) as folder:
        save(contents.to_tree(), folder / RESULTS)
        others = _write_text(contents, folder, text)
        (folder / "figures").mkdir()

        def save_picture(picture: Picture) -> None:
            saving.save_picture(picture.drawn, folder / "figures" / picture.name, picture.table)

        for name, written in files_of(contents, others, take=save_picture).items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(written.encode("utf-8"))
        if record.blind:
            files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "text"]
            blinding.check(files, secrets)
    return out


def _write_text(contents: Contents, folder: Path, text: Path | None) -> list[str]:
    """Writes the text that was read, where it is the one that CPython ships, and returns the paths of what was written.

    It is this Python's, or, of another one's, that of the bundle that is made again.
    """
    if not contents.has_its_text:
        return []
    digest = str(contents.data.get("sha256"))
    content = topics.of_digest(digest)
    if content is None and text is not None and text.is_file() and digest_of(text) == digest:
        content = text.read_bytes()
    if content is None:
        return []
    (folder / topics.FILE).parent.mkdir()
    (folder / topics.FILE).write_bytes(content)
    return [topics.FILE]


def _blind(contents: Contents) -> Contents:
    """Returns the contents without what tells whose they are."""
    entries = {name: blinding.blinded(value) for name, value in vars(contents.record).items()}
    trees = {name: blinding.blinded_tree(tree) for name, tree in contents.trees.items()}
    return Contents(trees, Record(**entries))


def _secrets(record: Record) -> list[str]:
    """Returns what no file of a blind bundle may hold: names of machine and user, and commits."""
    words = blinding.identifying()
    for origin in (record.provenance, *record.begun):
        for name, entry in origin.items():
            if name in blinding.LEFT_OUT and entry.get("commit"):
                words.append(entry["commit"])
    return words


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


def _check_configuration(configuration: Any) -> None:
    if not isinstance(configuration, Mapping | NoneType):
        raise TypeError(f"configuration is {shown(configuration)}: a dict of names and values is needed")


def _configuration_of(run) -> dict:
    """Returns the configuration that results carry: that of their bundle, or how they were made, and every model."""
    recorded = dict(settings(run))
    kept = recorded.pop(BUNDLE, None)
    if isinstance(kept, dict):
        return kept["configuration"]
    recorded.pop("provenance", None)
    models = {}
    for name, node in tables.nodes(run).items():
        models[name] = json.loads(node.attrs.get("configuration", "null"))
    return {**recorded, "models": models}
