"""`gf.measure`: readings of models, of modules, and of any program without an edit to it, labelled.

The result is a tree as for gradflow's own models: a node for each trunk, positions along `depth`, residual sublayers along
`sublayer`, each with the line of the user's code that makes it.
"""

import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, overload

import jax
import numpy as np
import xarray as xr

from ..instruments.backward import gradients
from ..instruments.backward.loss import check_loss, check_parameters, has_arrays, measure_function, refuse_module
from ..instruments.jacobians import chain, spectrum
from ..instruments.measurement import SHARED, measure_models
from ..instruments.meters.resolution import resolved, warn_of_nonfinite, warn_of_underflow
from ..instruments.readings import Reading, readings
from ..instruments.seeds import seed_keys
from ..model.contracts import Model, Sided
from ..model.inputs.batch import the_batch
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import parameter_count
from ..results.arguments import answering, check_options, options_of, whole
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.tree import Readings, described, in_one_tree, label
from .jacobians.steps import FACTORS, stacks
from .metered import node_names, read, traced, written
from .modules import cross_entropy, library_of, program
from .program import Program
from .trunk.coordinates import coordinates
from .trunk.search import NoTrunk

# Readings of Jacobians, of the factors that a program shows.
JACOBIANS: dict[str, Reading] = {
    "partial_jacobian": chain.partial_jacobian,
    "spectrum": partial(spectrum.spectrum, factors=FACTORS),
    "lyapunov": chain.lyapunov,
    "alignment": chain.alignment,
    "end_to_end": chain.end_to_end,
}


def measure_program(
    loss_fn: Callable,
    params,
    batch,
    *,
    quantities: str | Sequence[str | Reading] = ("backward",),
    seeds: int | None = None,
    key=0,
) -> xr.DataTree:
    """Returns labelled readings of any differentiable program `loss_fn(params, batch) -> loss`, or `(loss, whatever else)`.

    Parameters
    ----------
    params : any pytree of floating arrays; or a function `init(key)` that draws it, for `seeds` draws (8)
    batch : whatever the loss takes besides
    quantities : "backward", which is always read, and readings of Jacobians: of sublayers, from one position of the stream to the
        next, with the factors skip + branch (`fork`) and `norm_out`; for each example alone, which has to be possible

    Each node has what one backward pass gives: `loss`, `stream_gradient` [seed, depth], by token where the stream has the axes
    batch, token, feature, `readout_gradient`, `budget`, `split` at the forks, the signal, and `parameter_gradient` of the
    parameters that a sublayer has to itself. Of the budget `norm_out` is what stands on the trunk above a fork; with `fork` it
    adds up exactly. Sublayers have their line as `kind`, and as `layer` how often that line has come.

    Cost: one backward pass and a few reductions a sublayer; that of Jacobians is what they cost for a model.

    Errors: ValueError for seeds of weights that are given, for other readings, and for Jacobians where examples interact;
    `NoTrunk`, a ValueError, where no residual stream is found, with the lines of what goes past one another.
    """
    origin = provenance()
    draws = callable(params) and not has_arrays(params)
    if seeds is not None and not draws:
        raise ValueError(
            f"seeds={seeds} draws weights, but params are given: give init(key) in their place, or no seeds"
        )
    seeds = 8 if seeds is None else whole("seeds", seeds)
    example = jax.eval_shape(params, jax.random.key(0)) if draws else params
    weights = map(params, seed_keys(key, seeds)) if draws else [params]
    nodes = _nodes("model", loss_fn, example, weights, batch, _jacobians(quantities))
    attributes: dict[str, Any] = {
        "weights": f"{seeds} draws" if draws else "given",
        "program": getattr(loss_fn, "__name__", "loss"),
    }
    if draws:
        attributes["batches"] = SHARED
    if isinstance(batch, Mapping):
        attributes["data"] = described(batch)
    return label(nodes, leading={"seed": np.arange(seeds if draws else 1)}, provenance=origin, **attributes)


def _jacobians(quantities: str | Sequence[str | Reading]) -> tuple[Reading, ...]:
    """Returns the readings of Jacobians among those that are asked for; what a backward pass gives is read anyway."""
    known = {"backward": gradients.reading, **JACOBIANS}
    return tuple(reading for reading in readings(quantities, known) if reading is not gradients.reading)


def _nodes(
    name: str, loss_fn: Callable, example, weights: Iterable, batch, jacobians: tuple[Reading, ...] = ()
) -> dict[str, Readings]:
    """Returns the readings of a program by node, for weights that look like the example, a seed each.

    The node is `name`, or of several streams one inside of it each.
    """
    check_parameters(example)
    check_loss(loss_fn, example, batch)
    of = traced(loss_fn, example, batch)

    @jax.jit
    def backward(params, batch):
        _, _, by_trunk = read(of, params, batch)
        return by_trunk

    drawn = []
    for of_seed in weights:
        by_trunk = jax.device_get(backward(of_seed, batch))
        if jacobians:
            models, examples = stacks(loss_fn, of_seed, batch)
            for reading, model in zip(by_trunk.values(), models, strict=True):
                reading |= jax.device_get(_read_jacobians(model, jacobians, of_seed, examples))
        drawn.append(by_trunk)
    number = parameter_count(example)
    nodes = {}
    for trunk_name, trunk in zip(node_names(of.trunks), of.trunks, strict=True):
        node = _node_of(name, trunk_name, len(of.trunks))
        arrays = jax.tree.map(lambda *of_seeds: np.stack(of_seeds), *[of_seed[trunk_name] for of_seed in drawn])
        warn_of_nonfinite(node, arrays, None)
        arrays = resolved(arrays)
        warn_of_underflow(node, arrays)
        nodes[node] = Readings(arrays, coordinates(trunk, of.names), written(loss_fn), number)
    return nodes


@partial(jax.jit, static_argnums=(0, 1))
def _read_jacobians(model, jacobians: tuple[Reading, ...], params, examples) -> dict:
    """Returns all that readings of Jacobians say of a trunk as a model."""
    arrays: dict = {}
    for reading in jacobians:
        arrays |= reading(model, params, examples)
    return arrays


def _node_of(name: str, trunk: str, streams: int) -> str:
    """Returns the node of a stream: by itself as the program is called, by the names of several streams of one program."""
    if streams == 1:
        return name
    return trunk if name == "model" else f"{name}/{trunk}"


@usual_settings()
def measure_programs(
    programs: Mapping[str, Program], data, *, seeds: int = 8, key=0, params: Mapping | None = None
) -> xr.DataTree:
    """Returns labelled readings of programs on one batch of the data, as `measure_models` does of models.

    `params` are given weights, `{name: params}`, with a leading seed axis.
    """
    origin = provenance()
    check_names(programs)
    batch = the_batch(data, {}, key)
    given = params or {}
    seeds = max((len(jax.tree.leaves(weights)[0]) for weights in given.values()), default=seeds)
    keys = seed_keys(key, seeds)
    nodes: dict[str, Readings] = {}
    for name, one in programs.items():
        if name in given:
            weights: Iterable = [jax.tree.map(operator.itemgetter(seed), given[name]) for seed in range(seeds)]
            example = jax.tree.map(operator.itemgetter(0), given[name])
        else:
            weights = map(one.init, keys)
            example = jax.eval_shape(one.init, keys[0])
        for node, found in _nodes(name, one.loss_fn, example, weights, batch).items():
            nodes[node] = found._replace(configuration=one)
    attributes: dict[str, Any] = {"data": described(data), "key": str(key), "batches": SHARED}
    attributes["batch_sha256"] = digest(batch)
    if params is not None:
        attributes["weights"] = "given"
        attributes["weights_sha256"] = {name: digest(weights) for name, weights in given.items()}
    return label(nodes, leading={"seed": np.arange(seeds)}, provenance=origin, **attributes)


def measure_module(module, *given, loss: Callable = cross_entropy) -> xr.DataTree:
    """Returns labelled readings of a module as it is, as `measure_program` does of its loss.

    module : of Flax NNX or Equinox, followed by the batch; of Flax Linen, followed by the variables of `init` and the batch
    batch : `{"inputs": …, "targets": …}`, or whole tokens [batch, tokens + 1]: all but the last predict all but the first
    loss : `(outputs, targets) -> scalar`; by default the cross-entropy of logits

    An Equinox module is of one example, and mapped over the batch, where it takes one. Parameters are NNX's `Param`, Linen's
    `params`, and Equinox's floating arrays; other collections stay as they are, and what the module writes to them is dropped.
    """
    made, batch = program(module, *given, loss=loss)
    return measure_program(made.loss_fn, made.params, batch)


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
    if library_of(models):
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
