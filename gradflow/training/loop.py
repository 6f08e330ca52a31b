"""Training with readings: a short, plain loop whose own backward pass is what gets recorded.

One compiled step does forward, backward and update; what rides on its backward pass comes with it, so a record at step s
is of the weights after s updates, on batch s. Other readings are taken at the recorded steps.

Seeds change weights and batches; models share both, seed by seed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from ..instruments.backward import gradients
from ..instruments.measurement import by_node
from ..instruments.meters.resolution import resolved, warn_of_underflow
from ..instruments.seeds import over_seeds
from ..model.numerics.settings import usual_settings
from ..model.parameters.names import coordinates
from ..model.stacks.admin_profiling import profiled
from ..results.arguments import answering, function, whole
from ..results.provenance import provenance
from ..results.tree import Readings, label
from .checkpoints import Checkpoints
from .plan import Plan
from .recipe import recipe
from .record_schedule import Schedule
from .step import concat_seeds, split_seeds

Records = dict[str, tuple[list[int], list[np.ndarray]]]  # by quantity: steps, and values [seed, …]
Watch = Callable[[dict], None]


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
    bar: tqdm | None = None,
) -> tuple[dict, xr.DataTree]:
    """`(params, run)`: the trained weights by model, with a leading seed axis, and the readings over `step` and `seed`.

    Parameters
    ----------
    models : `{name: model}`
    data : a `Text`
    optimizer : a `Recipe`, or any optax transformation, whose learning rate is its own
    steps : number of updates
    record : steps at which readings are kept, 0 … steps, or a schedule of `record_schedule`; by default `record_schedule.early`
    readings : a preset, or a tuple of names, reading functions and `At(steps, …)` for what is read at fewer steps
        "economy" (loss, stream and parameter gradients, stream rms), "standard" (all that one backward pass gives, and the
        size of the updates) or "full" (change of the output, gradient noise, Jacobians).
        Measured over the bare step, width 64, 12 and 48 blocks: economy 0.97 to 1.07, standard 1.02 to 1.16; a record of "full"
        at 12 blocks takes some 4500 bare steps more, nearly all for spectra: few steps, or `At` for those.
    watch : called at every record with a flat dict of numbers, means over seeds, for any logger
    checkpoints : folder that keeps the run, every `checkpoint_every` steps (half a minute) and at the end of each model
    resume : continue the run in that folder; it ends with the bits of one that was never interrupted
    bar : a progress bar of the caller's, which goes on by one a step and is left open; by default one of its own

    A NaN or an infinity stops nothing: `nonfinite_step`, `_depth` and `_quantity` hold the first of each seed.
    """
    origin = provenance()
    if resume and checkpoints is None:
        raise ValueError("resume=True continues the run in a folder: name it, checkpoints='folder/'")
    if checkpoint_every is not None:
        whole("checkpoint_every", checkpoint_every)
    if watch is not None:
        function("watch", watch)
    plan = Plan.of(data, recipe(optimizer), key, seeds, steps, record, readings)
    models, _ = by_node(models)
    plan.check(models)
    models = profiled(models, data, key)
    decides = plan.configuration(models, key)
    kept: Any = nullcontext()
    if checkpoints is not None:
        kept = Checkpoints.opened(checkpoints, decides, checkpoint_every, resume=resume)
    params, runs = {}, {}
    with kept as keeper, _bar(bar, len(models) * (steps + 1)) as shown:
        for name, model in models.items():
            shown.set_description(name)
            params[name], records = _run(name, model, plan, keeper, shown, watch)
            found = resolved(_stacked(records, plan.kept))
            warn_of_underflow(name, found)
            runs[name] = Readings(found, coordinates(model, params[name]), model)
    run = label(
        runs,
        leading={"step": np.asarray(plan.kept), "seed": np.arange(seeds)},
        provenance=origin,
        data=data.description(),
        key=str(key),
        batches="one a seed and step",
        steps=steps,
        recipe=plan.recipe,
    )
    return params, run


def _bar(given: tqdm | None, total: int):
    """The caller's progress bar, left open, or one of its own."""
    if given is None:
        return tqdm(total=total, unit="step", delay=1, leave=False)
    return nullcontext(given)


def _run(name: str, model, plan: Plan, keeper: Checkpoints | None, bar, watch: Watch | None) -> tuple[dict, Records]:
    """One model's weights after the last step, and its records, from the start or from the latest checkpoint."""
    step, rates, shown = plan.step(model), plan.rates, 0.0
    begin, start, records = keeper.restore(name, step.start(plan.keys)) if keeper else (0, step.start(plan.keys), {})
    states = split_seeds(start)
    bar.update(begin)
    for i in range(begin, plan.steps + 1):
        batch = plan.data.batches(plan.keys, i)
        afters, readings = step.over_groups(states, batch, plan.keys, rates[i], i)
        if i in plan.kept:
            weights = [concat_seeds([state["params"] for state in side]) for side in (states, afters)]
            found = jax.device_get({**concat_seeds(readings), **_separate(model, plan, i, weights, batch)})
            for quantity, values in found.items():
                for column, item in zip(records.setdefault(quantity, ([], [])), (i, values), strict=True):
                    column.append(item)
            if watch:
                watch({"model": name, "step": i, **_scalars(found)})
        states = afters if i < plan.steps else states
        if keeper and keeper.due(i, plan.steps):
            keeper.save(name, i + 1, concat_seeds(states), records)
        if time.monotonic() - shown > 0.2:
            bar.set_postfix(
                _scalars(concat_seeds(jax.device_get(readings)), ("loss", "bottom_to_readout")), refresh=False
            )
            shown = time.monotonic()
        bar.update()
    return concat_seeds(states)["params"], records


def _separate(model, plan: Plan, i: int, weights, batch) -> dict:
    """What is read at a recorded step, of the weights before and after it, beyond the training's own backward pass."""
    before, after = weights
    of_weights, of_updates = plan.further_at(i)
    found = over_seeds(model, (gradients.heldout_loss,), before, plan.data.held_out(), None)
    if of_weights:
        found |= over_seeds(model, of_weights, before, batch, 0)
    if of_updates:
        found |= over_seeds(model, of_updates, (before, after), batch, 0)
    return found


def _stacked(records: Records, kept: tuple[int, ...]) -> dict[str, np.ndarray]:
    """`{quantity: [step, seed, …]}`, NaN at recorded steps where a quantity was not read."""

    def whole(steps, values):
        if len(steps) == len(kept):
            return np.stack(values)
        missing = np.full_like(values[0], np.nan, np.result_type(values[0], np.float32))
        return np.stack([dict(zip(map(int, steps), values, strict=True)).get(step, missing) for step in kept])

    return {name: whole(*held) for name, held in records.items()}


def _scalars(found: dict, names: Sequence[str] = ()) -> dict[str, float]:
    """Plain numbers of a record, means over seeds, for a bar or a logger: all, or those named."""
    with np.errstate(all="ignore"):  # a run that diverged is shown, not warned of
        flat = {name: float(np.mean(values)) for name, values in found.items() if np.ndim(values) == 1}
        ratio = found["stream_gradient"][:, 0] / found["readout_gradient"]
        flat["bottom_to_readout"] = float(np.exp(np.mean(np.log(ratio))))
    return {name: flat[name] for name in names or flat}
