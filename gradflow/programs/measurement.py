"""`gf.measure`: readings of models, of modules, and of any program without an edit to it, labelled."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import jax
import xarray as xr
from jax.sharding import Mesh

from ..instruments.backward.loss import measure_function, refuse_module
from ..instruments.measurement import SHARED, measure_models
from ..instruments.readings import Reading
from ..model.contracts import Model, Sided
from ..model.numerics.settings import usual_settings
from ..results.arguments import answering, check_options, options_of
from ..results.tree import in_one_tree
from .modules import cross_entropy, is_module
from .program import Program
from .readings import measure_module, measure_program, measure_programs
from .trunk.search import NoTrunk


def _measure_all(models: Mapping, data, options: dict) -> xr.DataTree:
    """Returns readings of gradflow's models and of programs, in one tree."""
    programs = {name: model for name, model in models.items() if isinstance(model, Program)}
    if not programs:
        check_options("measure of a model", options, options_of(measure_models))
        return measure_models(models, data, **options)
    check_options("measure of a program", options, options_of(measure_programs))
    if len(programs) == len(models):
        return measure_programs(programs, data, **options)
    given = options.pop("params", None) or {}
    others = {name: model for name, model in models.items() if name not in programs}
    trees = []
    for take, some in ((measure_models, others), (measure_programs, programs)):
        of_some = {name: weights for name, weights in given.items() if name in some}
        trees.append(take(some, data, params=of_some or None, **options))
    return in_one_tree(models, trees)


@overload
def measure(
    models: Model | Sided | Program | Mapping[str, Any],
    data: Any,
    *,
    seeds: int = 8,
    key: Any = 0,
    params: Any = None,
    batches: str = SHARED,
    quantities: str | Sequence[str | Reading] = ("backward",),
    mesh: Mesh | None = None,
) -> xr.DataTree: ...


@overload
def measure(
    models: Callable[..., Any],
    data: Any,
    batch: Any,
    *,
    quantities: str | Sequence[str | Reading] = ("backward",),
    seeds: int | None = None,
    key: Any = 0,
) -> xr.DataTree: ...


@overload
def measure(models: Any, data: Any, *, loss: Callable[..., Any] = cross_entropy) -> xr.DataTree: ...


@overload
def measure(
    models: Callable[..., Any],
    data: Any,
    batch: Any,
    *,
    dials: Mapping[str, Any] | None = None,
    stacked: str | tuple[str, ...] | None = None,
) -> xr.DataTree: ...


@answering(measure_models, measure_program, measure_module, measure_function)
@usual_settings()
def measure(models, data, *batch, **options) -> xr.DataTree:
    """Returns labelled readings of one model, of several, of a module, or of somebody's own loss.

    `measure(model, data)` and `measure({name: model}, data)`:

    models : `Transformer`, `interop.functions.FunctionStack`, or anything with their methods; an `EncoderDecoder`, whose
        sides become the nodes `encoder` and `decoder`, inside of its name where it has one; a `Program`, somebody's own loss
        with what draws its weights, of which one backward pass is read
    data : a `Text`, or a batch `{"inputs": [B, …], "targets": [B, …]}`, the same for all seeds and models
    seeds : number of draws of the weights (8)
    key : integer or JAX key that all randomness derives from (0)
    params : given weights instead of fresh ones, with a leading seed axis; `{name: params}` for several models, of which one that
        isn't named draws fresh weights
    batches : "shared by seeds", or "one a seed": a `Text` is cut seed by seed, a batch has a leading seed axis. Given weights may
        then be one set for all seeds, and what scatters is the text
    quantities : names in `READINGS` or reading functions; by default what one backward pass gives
    mesh : devices among which seeds, examples and weights are divided, by its axes `seed`, `example` and `model`: any
        `jax.sharding.Mesh` with some of these names; the numbers are those of one device, to rounding

    `measure(loss_fn, params, batch)`, for any differentiable program: the residual stream is found in it, see `measure_program`.
    With `dials=…` or `stacked=…` it isn't looked for, see `measure_function`; nor are gradients of anything but parameters read
    where there is none, and a warning says what goes past.

    `measure(module, batch)` for a module of NNX or Equinox, `measure(module, variables, batch)` for one of Linen: see
    `measure_module`.

    Returns a `DataTree`: one node a model, `seed` at the root with the provenance.

    Errors: ValueError or TypeError, one line, before anything is compiled. A warning says which seeds are not finite, and where
    gradients underflowed.
    """
    if isinstance(models, Mapping | Model | Sided | Program):
        _check_count("a model", "gf.measure(model, data)", batch, 0)
        if isinstance(models, Mapping):
            return _measure_all(models, data, options)
        if options.get("params") is not None:
            options["params"] = {"model": options["params"]}
        return _measure_all({"model": models}, data, options)
    if is_module(models):
        check_options("measure of a module", options, options_of(measure_module))
        return measure_module(models, data, *batch, **options)
    refuse_module(models)
    if not callable(models):
        raise TypeError(
            f"measure takes a model, a dict of them, a module, or a loss function (params, batch), not {type(models).__name__}"
        )
    _check_count("a loss function", "gf.measure(loss_fn, params, batch)", batch, 1)
    if options.keys() & set(options_of(measure_function)):
        check_options("measure of a loss function with dials", options, options_of(measure_function))
        return measure_function(models, data, *batch, **options)
    check_options("measure of a loss function", options, [*options_of(measure_program), *options_of(measure_function)])
    if not options and not jax.tree.leaves(batch):  # without data there is no stream
        return measure_function(models, data, *batch)
    try:
        return measure_program(models, data, *batch, **options)
    except NoTrunk as error:
        if options:
            raise
        warnings.warn(f"{error}; so gradients of parameters alone are read", stacklevel=2)
        return measure_function(models, data, *batch)


def _check_count(what: str, call: str, given: tuple, expected: int) -> None:
    """Refuses more or fewer arguments than a call has."""
    if len(given) != expected:
        raise TypeError(f"measure of {what} has {expected + 2} arguments, not {len(given) + 2}: {call}")
