"""Training with readings: a short, plain loop that records its own backward pass.

One compiled step does forward, backward and update, with the inline readings; a record at step s is of the weights after s
updates, on batch s. Other readings are taken at the recorded steps.

Seeds change weights and batches; models share both, seed by seed.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from ..compiling.ahead import Ahead
from ..instruments.backward import gradients
from ..instruments.measurement import by_node
from ..instruments.meters.resolution import resolved, warn_of_underflow
from ..instruments.seeds import Calls, concat_seeds, each_seed, first_calls, over_seeds, split_seeds
from ..model.contracts import Model
from ..model.inputs.weights import shapes
from ..model.numerics.devices import EXAMPLE, SEED, described, place, place_weights
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import parameter_count
from ..model.stacks.admin_profiling import profiled
from ..programs.program import Program
from ..progress import about, counting
from ..results.arguments import answering, function, whole
from ..results.provenance import provenance
from ..results.resources import Clock
from ..results.tree import Readings, label
from .checkpoints import Checkpoints
from .plan import Plan, fitting
from .recipe import recipe
from .record_schedule import Schedule
from .step import Step

Records = dict[str, tuple[list[int], list[np.ndarray]]]  # by quantity: steps, and values [seed, …]
Watch = Callable[[dict], None]
STEP = "step"


@answering()
@usual_settings()
def train(
    models: Mapping,
    data,
    optimizer,
    *,
    steps: int = 100,
    record: Schedule | None = None,
    seeds: int = 4,
    key=0,
    readings: str | Sequence = "standard",
    watch: Watch | None = None,
    checkpoints: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    mesh: Mesh | None = None,
) -> tuple[dict, xr.DataTree]:
    """Returns `(params, run)`: the trained weights by model, with a leading seed axis, and the readings over `step` and `seed`.

    Parameters
    ----------
    models : `{name: model}`; a `gf.Program`, a loss and what draws its weights, stands among them
        Of a program is read what "economy" and "standard" have but the held-out loss's standard error and the angle of updates,
        and reading functions of your own, `(program, params, batch) -> dict`. Dropout is its own, and so is rematerialization.
    data : a `Text`; or anything with its methods (`gradflow.model.contracts.Data`), whose batches a program may take in any form
    optimizer : a `Recipe`, or any optax transformation, whose learning rate is its own
    steps : number of updates
    record : steps at which readings are kept, 0 … steps, or a schedule of `record_schedule`; by default `record_schedule.early`
    readings : a preset, or a tuple of names, reading functions and `At(steps, …)` for readings at fewer steps
        "economy" (loss, stream and parameter gradients, stream rms), "standard" (everything of one backward pass, and the
        size of the updates) or "full" (change of the output, gradient noise, Jacobians).
        Measured over the bare step, width 64, 12 and 48 blocks: economy 0.97 to 1.07, standard 1.02 to 1.16; a record of "full"
        at 12 blocks takes some 4500 bare steps more, nearly all for spectra: few steps, or `At` for those.
    watch : called at every record with a flat dict of numbers, means over seeds, for any logger
    checkpoints : folder that keeps the run, every `checkpoint_every` steps (half a minute) and at the end of each model
    resume : continue the run in that folder; it ends with the bits of one that was never interrupted
    mesh : devices among which seeds, examples and weights are divided, see `model.numerics.devices`

    A run with a NaN or an infinity goes on: `nonfinite_step`, `_depth` and `_quantity` hold the first of each seed.
    """
    origin, clock = provenance(), Clock()
    if resume and checkpoints is None:
        raise ValueError("resume=True continues the run in a folder: name it, checkpoints='folder/'")
    if checkpoints is not None and jax.process_count() > 1:
        raise NotImplementedError("checkpoints are those of one process: leave them out where there are several")
    if checkpoint_every is not None:
        whole("checkpoint_every", checkpoint_every)
    if watch is not None:
        function("watch", watch)
    plan = Plan.of(data, recipe(optimizer), key, seeds, steps, record, readings, mesh)
    models, _ = by_node(models, kinds=(Model, Program))
    plan.check(models)
    models = profiled(models, data, key)
    configuration = plan.configuration(models, key)
    opened: Any = nullcontext()
    if checkpoints is not None:
        opened = Checkpoints.opened(checkpoints, configuration, checkpoint_every, resume=resume)
    params, runs = {}, {}
    with opened as keeper, counting(len(models) * (steps + 1), "step") as progress, Ahead() as ahead:
        for name, model in models.items():
            if isinstance(model, Model) and mesh is None:
                for call in calls(plan, model):
                    ahead.compile(f"{name}, {call.what}", call.function, *call.arguments, times=call.times)
        estimate = ""
        if ahead.seconds:
            estimate = f", {about(ahead.seconds)} in all"
        for name, model in models.items():
            progress.set_description(f"{name}{estimate}")
            ahead.wait(f"{name}, {STEP}")
            params[name], records = _run(name, model, plan, keeper, progress, watch)
            arrays = resolved(_stacked(records, plan.kept))
            warn_of_underflow(name, arrays)
            places = plan.coordinates(model, params[name])
            runs[name] = Readings(arrays, places, model, parameter_count(params[name], seeds))
    run = label(
        runs,
        leading={"step": np.asarray(plan.kept), "seed": np.arange(seeds)},
        provenance={**origin, "resources": clock.used()},
        data=data.description(),
        key=str(key),
        batches="one a seed and step",
        steps=steps,
        recipe=plan.recipe,
        readings=plan.readings(),
        **described(plan.mesh),
    )
    return params, run


def _run(name: str, model, plan: Plan, keeper: Checkpoints | None, bar, watch: Watch | None) -> tuple[dict, Records]:
    """Returns one model's weights after the last step, and its records, from the start or from the latest checkpoint."""
    step = plan.step(model)
    begin, start = 0, step.start(plan.keys)
    records: Records = {}
    if keeper:
        begin, start, records = keeper.restore(name, start)
    states = step.groups(start)
    rates = plan.rates
    last_shown = 0.0
    bar.update(begin)
    for i in range(begin, plan.steps + 1):
        batch = plan.data.batches(plan.keys, i)
        afters, readings = step.over_groups(states, batch, plan.keys, rates[i], i)
        if i in plan.kept:
            separate = _separate(model, plan, i, _weights(states), _weights(afters), batch)
            record = jax.device_get({**concat_seeds(readings), **separate})
            _append(records, i, record)
            if watch:
                watch({"model": name, "step": i, **_scalars(record)})
        if i < plan.steps:
            states = afters
        if keeper and keeper.due(i, plan.steps):
            keeper.save(name, i + 1, concat_seeds(states), records)
        if time.monotonic() - last_shown > 0.2:
            now = _scalars(concat_seeds(jax.device_get(readings)), ("loss", "bottom_to_readout"))
            bar.set_postfix(now, refresh=False)
            last_shown = time.monotonic()
        bar.update()
    return concat_seeds(states)["params"], records


class Call(NamedTuple):
    """A program of a training: what it is of, the jitted function with the arguments of its first call, and how often it is."""

    what: str
    function: Any
    arguments: tuple
    times: float


def calls(plan: Plan, model) -> Iterator[Call]:
    """Yields the programs of a model's training: its step, the loss of held-out text, and the separate readings of weights."""
    step = plan.step(model)
    batch, keys = split_seeds(plan.data.batches(plan.keys, 0))[0], split_seeds(plan.keys)[0]
    state = jax.eval_shape(step.state_of, shapes(model, len(keys)))
    first = (step, state, batch, keys, jnp.asarray(plan.rates[0]), jnp.asarray(0))
    yield Call(STEP, Step.__call__, first, (plan.steps + 1) * len(plan.keys) / len(keys))
    weights = shapes(model, len(plan.keys))
    heldout = model, fitting(model, (gradients.heldout_loss,)), weights, plan.data.held_out(), None
    yield from _read(first_calls(*heldout), len(plan.kept))
    further = Counter(plan.further_at(step)[0] for step in plan.kept)
    for readings, times in further.items():
        if readings:
            of_weights = model, fitting(model, readings), weights, plan.data.batches(plan.keys, 0), 0
            yield from _read(first_calls(*of_weights), times)


def _read(first: Calls, records: int) -> Iterator[Call]:
    """Yields the programs of separate readings at so many records."""
    for arguments, times in first:
        yield Call(f"{arguments[1]}", over_seeds, arguments, times * records)


def _weights(states: list):
    """Returns the weights of all seeds, from the states of groups of them."""
    return concat_seeds([state["params"] for state in states])


def _append(records: Records, step: int, record: Mapping[str, np.ndarray]) -> None:
    """Adds a record of that step to the records by quantity."""
    for quantity, values in record.items():
        steps, entries = records.setdefault(quantity, ([], []))
        steps.append(step)
        entries.append(values)


def _separate(model, plan: Plan, i: int, before, after, batch) -> dict:
    """Returns the separate readings at a recorded step, of the weights before and after it, with the held-out loss."""
    of_weights, of_updates = plan.further_at(i)
    mesh = plan.mesh
    before = place_weights(mesh, before, SEED)
    batch = place(mesh, batch, SEED, EXAMPLE)
    heldout = fitting(model, (gradients.heldout_loss,))
    arrays = each_seed(model, heldout, before, place(mesh, plan.data.held_out(), EXAMPLE), None, mesh)
    if of_weights:
        arrays |= each_seed(model, fitting(model, of_weights), before, batch, 0, mesh)
    if of_updates:
        after = place_weights(mesh, after, SEED)
        arrays |= each_seed(model, fitting(model, of_updates), (before, after), batch, 0, mesh)
    return arrays


def _stacked(records: Records, kept: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns `{quantity: [step, seed, …]}`, NaN at recorded steps where a quantity was not read."""
    arrays = {}
    for name, (steps, values) in records.items():
        if len(steps) == len(kept):
            arrays[name] = np.stack(values)
            continue
        missing = np.full_like(values[0], np.nan, np.result_type(values[0], np.float32))
        at_step = dict(zip(map(int, steps), values, strict=True))
        arrays[name] = np.stack([at_step.get(step, missing) for step in kept])
    return arrays


def _scalars(record: dict, names: Sequence[str] = ()) -> dict[str, float]:
    """Returns plain numbers of a record, means over seeds, for a bar or a logger: all, or those named."""
    scalars = {}
    with np.errstate(all="ignore"):  # no warnings of a run that diverged
        for name, values in record.items():
            if np.ndim(values) == 1:
                scalars[name] = float(np.mean(values))
        ratio = record["stream_gradient"][:, 0] / record["readout_gradient"]
        scalars["bottom_to_readout"] = float(np.exp(np.mean(np.log(ratio))))
    if not names:
        return scalars
    return {name: scalars[name] for name in names}
