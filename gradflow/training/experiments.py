r"""Experiments for a paper on norm placement, one call each; figures are in `plot`, sentences in `report.findings`.

    tree = gf.experiments.warmup(models, data, lrs=(3e-4, 1e-3), warmups=(0, 100), steps=300, seeds=4)
    gf.plot.outcomes(tree); print(*gf.findings.warmup(tree), sep="\n")

Each returns labelled readings: of several recipes over `recipe`, `step` and `seed`; of one recipe over `step` and `seed`;
against the total depth as `gf.sweep` does. Models are paired seed by seed throughout, and recipes too.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from ..model.numerics.devices import check_alone
from ..model.stacks.transformer import Transformer
from ..programs.sweep import sweep
from ..results.arguments import answering, of_class, real, shown, whole
from ..results.cells import Cells
from ..results.fields import field_values
from ..results.files import as_path
from ..results.grid import Cell, each
from ..results.tree import side_by_side
from .loop import train
from .optimizers import Adam, Noise
from .recipe import Recipe
from .record_schedule import Schedule, logarithmic

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TUNED = Recipe(Adam(b2=0.98, eps=1e-9), warmup=100, clip=1.0)
STABLE = Recipe(warmup=100, clip=1.0, schedule="cosine")
NO_NUMBERS = ("watch", "checkpoints", "checkpoint_every", "resume")  # options of `train` that change none
NUDGE = Recipe(Noise(), lr=0.01)


@answering(train)
def grid(
    models: Mapping,
    data,
    recipes: Mapping[str, Recipe],
    *,
    executor: Executor | int | None = None,
    folder: str | Path | None = None,
    checkpoints: str | Path | None = None,
    **options,
) -> xr.DataTree:
    """Returns readings of every model under every recipe, over `recipe`, `step` and `seed`; by default "economy".

    `executor` makes the runs, and `folder` keeps one file a recipe, as `gf.grid` takes them; by default they are made in turn,
    and recipes that differ in learning rate, warm-up or schedule share one compiled step a model. `options` are those of
    `train`; `checkpoints` keeps each recipe's run in a folder of its own, numbered in order.

    Where recipes fail, a warning says so, and the root's attribute `failed` has their tracebacks. Errors: as `train`; ValueError
    for a mesh beside an executor.
    """
    if not isinstance(recipes, Mapping) or not recipes:
        raise ValueError("name at least one recipe, for example {'no warm-up': Recipe(), 'warm-up': Recipe(warmup=50)}")
    check_alone(options.get("mesh"), executor)
    cells = {}
    for i, (name, recipe) in enumerate(recipes.items()):
        options_of_run = {"readings": "economy", **options}
        if checkpoints is not None:
            options_of_run["checkpoints"] = as_path(checkpoints) / str(i)
        arguments = {"models": models, "data": data, "recipe": recipe, "options": options_of_run}
        deciding = {option: value for option, value in options_of_run.items() if option not in NO_NUMBERS}
        cells[name] = Cell.of(_run, arguments, {**arguments, "options": deciding})
    made = each(cells, executor=executor, files=Cells.of(folder), what="recipes", unit="recipe")
    tree = side_by_side("recipe", made.trees, **_columns([recipes[name] for name in made.trees]))
    tree.attrs |= made.attributes("recipes")
    return tree


def _run(models: Mapping, data, recipe: Recipe, options: Mapping) -> xr.DataTree:
    """Returns the readings of a training."""
    return train(models, data, recipe, **options)[1]


def _columns(recipes) -> dict[str, list[float]]:
    """Returns numbers in which recipes differ, as coordinates; NaN for none."""
    columns = {}
    for name in ("lr", "warmup", "clip", "clip_parameter", "dropout", "attention_dropout"):
        values = [field_values(recipe)[name] for recipe in recipes]
        columns[name] = [float("nan") if value is None else float(value) for value in values]
    return columns


@answering(grid)
def warmup(
    models: Mapping,
    data,
    *,
    lrs: Sequence[float] = RATES,
    warmups: Sequence[int] = (0, 100),
    base: Recipe = Recipe(),
    **options,
) -> xr.DataTree:
    """Returns the runs of every wiring for every learning rate and length of the warm-up: is warm-up needed?

    Both are changed in the recipe `base`; `options` are those of `grid`.
    """
    of_class("base", base, Recipe)
    lrs = [real("lr", lr, above=0) for lr in _listed("lrs", lrs)]
    warmups = [whole("warmup", n, least=0) for n in _listed("warmups", warmups)]
    recipes = {}
    for n in warmups:
        length = f"{n} steps of warm-up" if n else "no warm-up"
        for lr in lrs:
            recipes[f"lr {lr:g}, {length}"] = replace(base, lr=lr, warmup=n)
    return grid(models, data, recipes, **options)


def _listed(name: str, values) -> list:
    """Returns the values as a list; an error where there is none."""
    if not isinstance(values, Sequence | np.ndarray) or isinstance(values, str) or not len(values):
        raise ValueError(f"{name} is {shown(values)}: one value at least is needed, in a tuple")
    return list(values)


@answering(warmup, without=("warmups",))
def sensitivity(
    models: Mapping, data, *, lrs: Sequence[float] = RATES, base: Recipe = Recipe(), **options
) -> xr.DataTree:
    """Returns the runs of every wiring over learning rates: how sensitive is its loss? (Wortsman et al. 2023, section 2.3)."""
    warmups = (of_class("base", base, Recipe).warmup,)
    return warmup(models, data, lrs=lrs, warmups=warmups, base=base, **options)


@answering(grid)
def adam(models: Mapping, data, *, default: Recipe = Recipe(), tuned: Recipe = TUNED, **options) -> xr.DataTree:
    """Returns the runs of a default Adam and a tuned one: optax's constants, and b2 = 0.98, eps = 1e-9, warm-up and clipping."""
    return grid(models, data, {"default": default, "tuned": tuned}, **options)


@answering(warmup, without=("warmups",))
def quality(models: Mapping, data, *, lrs: Sequence[float] = RATES, base: Recipe = STABLE, **options) -> xr.DataTree:
    """Returns the runs of the wirings where stability is ensured, over learning rates: with warm-up, clipping and decay."""
    warmups = (of_class("base", base, Recipe).warmup,)
    return warmup(models, data, lrs=lrs, warmups=warmups, base=base, **options)


@answering(train)
def before_and_after(models: Mapping, data, *, recipe: Recipe = Recipe(warmup=100), **options) -> xr.DataTree:
    """Returns gradients of the parameters at initialization and after the warm-up (Xiong et al. 2020, figure 3)."""
    if not of_class("recipe", recipe, Recipe).warmup:
        raise ValueError("before and after warm-up: give a recipe that has one, Recipe(warmup=100)")
    shape = {"steps": recipe.warmup, "record": (0, recipe.warmup), "readings": "economy"}
    return train(models, data, recipe, **{**shape, **options})[1]


@answering(train)
def collapse(
    models: Mapping, data, *, recipe: Recipe = Recipe(), record: Schedule = logarithmic(8), **options
) -> xr.DataTree:
    """Returns a run with the anatomy of the collapse: budget, token cosine and loss, step by step from the first."""
    return train(models, data, recipe, **{"record": record, **options})[1]


@answering(sweep, train, without=("take", "steps", "record", "readings"))
def amplification(
    models: Mapping, data, *, depth: Sequence[int] = (3, 6, 12, 24), recipe: Recipe = NUDGE, **options
) -> xr.DataTree:
    """Returns how far one update moves the output, against the number of blocks (Liu et al. 2020, section 4).

    By default the update is noise of a hundredth of every weight; `Recipe()` makes it Adam's first.
    """
    return sweep(models, data, depth=depth, take=partial(_first_update, recipe), **options)


@answering(sweep, train, without=("take", "steps", "record", "readings", "depth", "width"))
def coordinate_check(
    models: Mapping,
    data,
    *,
    depths: Sequence[int] = (2, 4, 8),
    widths: Sequence[int] = (16, 32, 64),
    recipe: Recipe = Recipe(),
    steps: int = 3,
    **options,
) -> xr.DataTree:
    """Returns readings of every model at every width and depth, at the start and after a few steps of one recipe.

    The coordinate check of Yang et al. 2022 (appendix D.1), along both axes as Dey et al. 2025 (CompleteP) have it: a
    parameterization that transfers keeps the size of the stream, and of what an update changes of it. The nodes are
    `model/width_w/depth_n`; `gf.plot.coordinate_check` draws one model. `options` are those of `train`. Cost: one training of
    that many steps for each pair.
    """
    take = partial(_after_steps, recipe, whole("steps", steps))
    resized = {}
    for width in widths:
        for name, model in models.items():
            resized[f"{name}/width_{width}"] = _of_width(name, model, width)
    return sweep(resized, data, depth=depths, take=take, **options)


def _of_width(name: str, model, width: int):
    """Returns a model of another width.

    Errors: TypeError for what has no width.
    """
    of_class(name, model, Transformer)
    return replace(model, width=whole("a width", width))


def _after_steps(recipe: Recipe, steps: int, models: Mapping, data, **options) -> xr.DataTree:
    """Returns readings at the start and after these steps, with what the next update changes."""
    ends = sorted({0, steps - 1})
    return train(models, data, recipe, steps=steps, record=ends, readings=("backward", "update", "change"), **options)[
        1
    ]


def _first_update(recipe: Recipe, models: Mapping, data, **options) -> xr.DataTree:
    """Returns readings of the weights at initialization, and of the update that follows."""
    run = train(models, data, recipe, steps=1, record=(0,), readings=("economy", "change"), **options)[1]
    return run.isel(step=0, drop=True)
