"""Readings of programs, labelled: of a loss, of several beside one another, of a module.

The result is a tree as for gradflow's own models: a node for each trunk, positions along `depth`, residual sublayers along
`sublayer`, each with the line of the user's code that makes it.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from ..instruments.backward import gradients
from ..instruments.backward.loss import check_loss, check_parameters, has_arrays
from ..instruments.jacobians import chain, spectrum
from ..instruments.measurement import SHARED
from ..instruments.meters.resolution import resolved, warn_of_nonfinite, warn_of_underflow
from ..instruments.readings import Reading, readings
from ..instruments.seeds import seed_keys
from ..model.inputs.batch import the_batch
from ..model.numerics import devices
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import parameter_count
from ..progress import Waiting
from ..results.arguments import whole
from ..results.digest import digest
from ..results.naming import check_names
from ..results.provenance import provenance
from ..results.tree import Readings, described, label
from .jacobians.steps import FACTORS, stacks
from .metered import called, node_names, read, traced, written
from .modules import cross_entropy, program
from .program import Program
from .trunk.coordinates import coordinates

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
    adds up exactly. Down the branch it is NaN: which of its operations are a norm is told by numerical tests of the diagnosis,
    and a reading of one backward pass takes no test's word. Sublayers have their line as `kind`, and as `layer` how often that
    line has come.

    Several arrays of one shape that layers hand on beside one another are lanes of one stream: norms are over all lanes. Where
    lanes begin as one array, the position there is this one.

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
    with Waiting("measure"):
        nodes = _nodes("model", loss_fn, example, weights, batch, _jacobians(quantities))
    attributes: dict[str, Any] = {
        "weights": f"{seeds} draws" if draws else "given",
        "program": called(loss_fn),
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
    name: str,
    loss_fn: Callable,
    example,
    weights: Iterable,
    batch,
    jacobians: tuple[Reading, ...] = (),
    mesh: Mesh | None = None,
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
        return devices.everywhere(mesh, by_trunk)

    batch = devices.place(mesh, batch, devices.EXAMPLE)
    drawn = []
    for each in weights:
        of_seed = devices.place_weights(mesh, each)
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
    programs: Mapping[str, Program],
    data,
    *,
    seeds: int = 8,
    key=0,
    params: Mapping | None = None,
    mesh: Mesh | None = None,
) -> xr.DataTree:
    """Returns labelled readings of programs on one batch of the data, as `measure_models` does of models.

    `params` are given weights, `{name: params}`, with a leading seed axis. Seeds are read one after the other, each on the whole
    `mesh`, which has no axis of seeds.
    """
    origin = provenance()
    check_names(programs)
    mesh = devices.automatic(mesh)
    if devices.ways(mesh, devices.SEED) > 1:
        raise ValueError("programs are measured seed by seed: take a mesh of the axes example and model, without seed")
    batch = the_batch(data, {}, key)
    devices.check_examples(mesh, batch)
    given = params or {}
    seeds = max((len(jax.tree.leaves(weights)[0]) for weights in given.values()), default=seeds)
    keys = seed_keys(key, seeds)
    nodes: dict[str, Readings] = {}
    with Waiting("measure"):
        for name, one in programs.items():
            if name in given:
                weights: Iterable = [jax.tree.map(operator.itemgetter(seed), given[name]) for seed in range(seeds)]
                example = jax.tree.map(operator.itemgetter(0), given[name])
            else:
                weights = map(one.init, keys)
                example = jax.eval_shape(one.init, keys[0])
            for node, found in _nodes(name, one.loss_fn, example, weights, batch, mesh=mesh).items():
                nodes[node] = found._replace(configuration=one)
    attributes: dict[str, Any] = {
        "data": described(data),
        "key": str(key),
        "batches": SHARED,
        **devices.described(mesh),
    }
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
