"""The atlas: the gradient flow of many wirings side by side, at initialization and after a short training, with its theory.

    models = gf.transformers(*gf.wirings().index, depth=12, width=64, context=32)
    tree = gf.atlas(models, gf.data.text(context=32, batch=4), predict=gf.predict)
    gf.plot.atlas(tree); gf.report.tables.atlas.texts(tree)

Three trees of one schema lie side by side, with a node a wiring: `training` (over `step`, 0 and the last, and `seed`), `start`
(stream gradients at initialization of more seeds, all on the batch that theory reads) and `theory`. Weights and batches are
paired seed by seed. A wiring that theory refuses, one that diverges and one that fails stop none of the others.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..instruments.jacobians.chain import partial_jacobian
from ..instruments.jacobians.spectrum import Krylov, window
from ..instruments.measurement import SHARED, by_node
from ..instruments.seeds import seed_keys
from ..model.inputs import size
from ..model.inputs.batch import checked
from ..model.numerics.settings import usual_settings
from ..model.parameters.keys import root
from ..model.parameters.names import coordinates
from ..model.stacks.admin_profiling import profiled
from ..model.wirings.catalogue import wirings
from ..results.arguments import answering, function, whole
from ..results.configuration import differences, dumps, encode
from ..results.digest import digest
from ..results.files import as_path, clear, printable, unwritten
from ..results.locks import held
from ..results.naming import stem
from ..results.stored import load, save
from ..results.tree import Readings, label, settings
from .loop import train
from .plan import Plan
from .recipe import Recipe, recipe
from .step import concat_seeds, split_seeds

TOGETHER = 3  # wirings made at a time: some wait for the compiler while another computes
KEPT = 16  # wirings whose programs are kept
WINDOW = 2  # tokens, the first, whose Jacobian has its spectrum taken: 128 × 128 a lane at width 64
DENSE = 512
ENDS = ("largest_singular_value", "smallest_singular_value")
COMPARED = ("loss", "stream_gradient", "readout_gradient")


def ends(model, params, batch) -> dict:
    """σ_max and σ_min of every sublayer's Jacobian [S, jacobian] on the spaces where it acts, for the first `WINDOW` tokens.

    Exact up to `DENSE` entries of the stream, two tokens on four lanes of width 64. Beyond, σ_max of attention is an estimate
    and σ_min is NaN.
    """
    quick = Krylov(probes=2, iterations=16, solves=0)
    found = window(model, params, batch, tokens=WINDOW, factors=("sublayer",), dense=DENSE, krylov=quick)
    return {name: found[name] for name in ENDS}


READ = ("backward", partial_jacobian, ends)


@answering()
@usual_settings()
def atlas(
    models: Mapping,
    data,
    optimizer=Recipe(),
    *,
    steps: int = 20,
    seeds: int = 4,
    scatter: int = 16,
    key=0,
    predict: Callable[..., xr.DataTree] | None = None,
    folder: str | Path | None = None,
) -> xr.DataTree:
    """`training`, `start` and `theory` of every wiring, paired by seed; see the head of this module.

    Parameters
    ----------
    models : `{name: Transformer}`, of one shape
    data : a `Text`
    optimizer : as `train` takes it; Adam at 1e-3 without warm-up
    scatter : seeds behind `start`: a mean square over four is no match for a theory
    predict : `gf.predict`, or what takes and returns the same; None for no theory
    folder : keeps one file a wiring, each whole or not there; those already there are not made again

    What theory refuses is the attribute `no_theory` of the wiring's node in `training`, with `equation` and `source`; what
    failed is in the root's attribute `failed`, by name.

    Cost: 15 to 25 s a wiring at 12 blocks of width 64 on two cores, mostly to compile.

    Errors: ValueError as `train`; FileExistsError where the folder holds a wiring of another configuration.
    """
    scatter = whole("scatter", scatter, least=2)
    if predict is not None:
        function("predict", predict)
    size.refuse("the start", "take a smaller scatter", keys=size.KEY * scatter)
    plan = Plan.of(data, recipe(optimizer), key, seeds, steps, (0, steps), READ)
    models, _ = by_node(models)
    _check_some(plan, models)
    models = profiled(models, data, key)
    decides = {
        name: encode({**plan.configuration({name: model}, key), "scatter": scatter, "theory": predict is not None})
        for name, model in models.items()
    }
    with _opened(folder):
        parts, failed = _kept(folder, decides), {}
        missing = [name for name in models if name not in parts]
        with tqdm(total=len(missing) * (steps + 1), unit="step", delay=1, leave=False) as bar:
            make = lambda name: _one(name, models[name], plan, key, scatter, predict, bar)
            for name, made in _side_by_side(make, missing):
                if isinstance(made, Exception):
                    failed[name] = f"{type(made).__name__}: {made}".splitlines()[0]
                    continue
                made.attrs["configuration"] = dumps(decides[name])
                parts[name] = made
                _keep(folder, name, made)
    in_order = lambda found: {name: found[name] for name in models if name in found}
    return _joined(in_order(parts), in_order(failed))


def _check_some(plan: Plan, models: Mapping) -> None:
    """The first model's error where none of them can read the data, or fits; one that can't alone is told when its turn comes."""
    refused: list[ValueError] = []
    for name, model in models.items():
        try:
            plan.check({name: model})
        except ValueError as error:
            refused.append(error)
    if len(refused) == len(models):
        raise refused[0]


def _side_by_side(
    make: Callable[[str], xr.DataTree], names: list[str]
) -> Iterator[tuple[str, xr.DataTree | Exception]]:
    """What `make` gives or raises for each name, as they are done: one of one's own, or too large, stops none of the others.

    From time to time all programs are forgotten: a system allows a process some 65,000 memory maps, and a program holds hundreds.
    """
    for start in range(0, len(names), KEPT):
        pool = ThreadPoolExecutor(TOGETHER)
        waiting = {pool.submit(make, name): name for name in names[start : start + KEPT]}
        try:
            for done in as_completed(waiting):
                error = done.exception()
                yield waiting[done], error if isinstance(error, Exception) else done.result()
        finally:
            pool.shutdown(cancel_futures=True)
        jax.clear_caches()


def _one(name: str, model, plan: Plan, key, scatter: int, predict, bar) -> xr.DataTree:
    """The three trees of one wiring."""
    options = {"record": plan.kept, "seeds": len(plan.keys), "key": key, "readings": READ}
    run = train({name: model}, plan.data, plan.recipe, steps=plan.steps, bar=bar, **options)[1]
    bar.set_description(f"{name}, theory")
    trees, words, told = {"training": run, "start": _started(name, model, plan, key, scatter)}, _words(name, model), {}
    if predict is not None:
        try:
            trees["theory"] = predict({name: model}, plan.data, quantities=("stream",), key=key)
            told = {"theory": trees["theory"].attrs["theory"]}
        except (ValueError, NotImplementedError) as refusal:
            words["no_theory"] = str(refusal).splitlines()[0]
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={**run.attrs, **told})}
    for place, tree in trees.items():
        nodes[place] = tree.to_dataset().drop_attrs(deep=False)
        nodes[f"{place}/{name}"] = tree.children[name].to_dataset(inherit=False)
    nodes[f"training/{name}"] = nodes[f"training/{name}"].assign_attrs(words)
    return xr.DataTree.from_dict(nodes)


def _started(name: str, model, plan: Plan, key, seeds: int) -> xr.DataTree:
    """Stream gradients at initialization of many seeds, on the batch that theory reads, by the program that trains.

    As many seeds at a time as are trained, so that their weights are drawn by programs that are there.
    """
    step, keys, rows = replace(plan.step(model), dropout=0.0), seed_keys(key, seeds), []
    shared = checked(plan.data.batch(root(key), 0), {name: model})
    for first in range(0, seeds, len(plan.keys)):
        some = keys[first : first + len(plan.keys)]
        batch = jax.tree.map(lambda a, n=len(some): jnp.broadcast_to(a, (n, *a.shape)), shared)
        start = step.start(some)
        rows += step.over_groups(split_seeds(start), batch, some, plan.rates[0], 0)[1]
    found = jax.device_get(concat_seeds(rows))
    named = coordinates(model, start["params"])
    return label(
        {name: Readings({quantity: found[quantity] for quantity in COMPARED}, named, model)},
        leading={"seed": np.arange(seeds)},
        batches=SHARED,
        batch_sha256=digest(shared),
    )


def _words(name: str, model) -> dict[str, str]:
    """The equation and the citation of a wiring: of the table of names, or its sublayers' own."""
    known = wirings()
    if name in known.index:
        return {what: str(known.loc[name, what]) for what in ("equation", "source")}
    own = list(dict.fromkeys(sub.wiring for sub in model.sublayers))
    told = lambda what: "; ".join(dict.fromkeys(getattr(wiring, what) for wiring in own))
    return {what: told(what) for what in ("equation", "source")}


# ---- one file a wiring --------------------------------------------------------------------------------------


def _place(folder: str | Path, name: str) -> Path:
    return as_path(folder) / f"{stem(name)}.nc"


@contextmanager
def _opened(folder: str | Path | None) -> Iterator[None]:
    """The folder is there and held against other processes; what a killed one left half-written goes."""
    if folder is None:
        yield
        return
    try:
        as_path(folder).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise unwritten(folder, error) from None
    with held(folder):
        clear(Path(folder))
        yield


def _kept(folder: str | Path | None, decides: Mapping[str, dict]) -> dict[str, xr.DataTree]:
    """The wirings whose files are in the folder.

    Errors: FileExistsError for one of another configuration; OSError for a damaged one, with the remedy.
    """
    if folder is None:
        return {}
    places = {name: _place(folder, name) for name in decides}
    return {name: _read(place, name, decides[name]) for name, place in places.items() if os.path.lexists(place)}


def _read(place: Path, name: str, decides: dict) -> xr.DataTree:
    try:
        tree = load(place)
        told, parts = settings(tree).get("configuration"), {f"/training/{name}", f"/start/{name}"}
        if not isinstance(told, dict) or not parts <= set(tree.groups):
            raise OSError(f"{printable(place)} is no wiring's file of an atlas")
    except OSError as error:
        raise OSError(f"{error}; or delete it, and {name} is made again") from None
    if differ := differences(told, decides):
        raise FileExistsError(f"{printable(place)} is of another configuration: {differ}; name another folder")
    return tree


def _keep(folder: str | Path | None, name: str, tree: xr.DataTree) -> None:
    if folder is not None:
        save(tree, _place(folder, name))


def _joined(parts: Mapping[str, xr.DataTree], failed: Mapping[str, str]) -> xr.DataTree:
    """One tree of all wirings; the root says how the first was made, and what failed."""
    nodes: dict[str, xr.Dataset] = {"/": xr.Dataset()}
    for tree in parts.values():
        nodes["/"].attrs = {**tree.attrs, **nodes["/"].attrs}
        for node in tree.subtree:
            nodes.setdefault(node.path, node.to_dataset(inherit=False))
    nodes["/"].attrs = {**nodes["/"].attrs, "failed": dumps(failed)}
    nodes["/"].attrs.pop("configuration", None)
    return xr.DataTree.from_dict(nodes)
