"""Training with readings: a short, plain loop whose own backward pass is what gets recorded.

One compiled step does forward, backward and update for all seeds at once (`vmap`); its reading comes with it, so a
record at step s is of the weights after s updates, on batch s, and costs what the meters cost.

Seeds change weights and batches; models share both, seed by seed.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from tqdm.auto import tqdm

from ..instruments import gradients
from ..instruments.readings import over_seeds, readings, seed_keys
from ..model.names import coordinates
from ..results.provenance import provenance
from ..results.tree import Readings, label


def train(
    models: Mapping,
    data,
    optimizer: optax.GradientTransformation,
    *,
    steps: int = 100,
    record: Sequence[int] | None = None,
    seeds: int = 4,
    key=0,
    quantities: Sequence = (),
) -> tuple[dict, xr.DataTree]:
    """`(params, run)`: the trained weights by model, with a leading seed axis, and the readings over `step` and `seed`.

    Parameters
    ----------
    models : `{name: model}`
    data : a `Text`
    optimizer : any optax transformation
    steps : number of updates
    record : steps at which readings are kept, 0 … steps; by default `schedule(steps)`
    quantities : names or readings beyond those of the backward pass, taken at the recorded steps

    A NaN or an infinity stops nothing: `nonfinite_step` and `nonfinite_depth` hold the first of each seed.
    """
    kept = schedule(steps) if record is None else tuple(sorted(set(record)))
    if not kept or kept[0] < 0 or kept[-1] > steps:
        raise ValueError(f"record = {kept} must lie between 0 and steps = {steps}")
    origin, keys = provenance(), seed_keys(key, seeds)
    params, runs = {}, {}
    with tqdm(total=len(models) * (steps + 1), unit="step", delay=1, leave=False) as bar:
        for name, model in models.items():
            bar.set_description(f"training {name}")
            params[name], arrays = _run(model, data, optimizer, keys, kept, steps, readings(quantities), bar)
            runs[name] = Readings(arrays, coordinates(model, params[name]), model)
    leading = {"step": np.asarray(kept), "seed": np.arange(seeds)}
    run = label(
        runs,
        leading=leading,
        provenance=origin,
        data=data.description(),
        key=str(key),
        batches="one a seed and step",
        steps=steps,
    )
    return params, run


def schedule(steps: int) -> tuple[int, ...]:
    """The steps recorded by default: 0, 1, 2, 5, then 10, 25, 50 and their multiples by ten, and the last.

    >>> schedule(100)
    (0, 1, 2, 5, 10, 25, 50, 100)
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}: at least 1 is needed")
    marks = {0, 1, 2, 5, *(mark * 10**power for mark in (10, 25, 50) for power in range(len(str(steps))))}
    return tuple(sorted({mark for mark in marks if mark <= steps} | {steps}))


def _run(model, data, optimizer, keys, kept, steps, extra, bar):
    """One model's trained weights, and its readings [step, seed, …] at the steps kept."""
    state = jax.vmap(lambda k: _start(model, optimizer, k))(keys)
    records = []
    for i in range(steps + 1):
        batch = data.batches(keys, i)
        after, reading = _steps(model, optimizer, state, batch, i)
        if i in kept:
            further = over_seeds(model, extra, state["params"], batch, 0) if extra else {}
            records.append(jax.device_get({**reading, **further}))
        if i < steps:
            state = after
        jax.block_until_ready(reading["loss"])
        bar.update()
    return state["params"], jax.tree.map(lambda *r: np.stack(r), *records)


@partial(jax.jit, static_argnums=(0, 1))
def _steps(model, optimizer, state, batch, i):
    """`_step` of every seed at once; compiled once for a model and an optimizer."""
    return jax.vmap(lambda s, b: _step(model, optimizer, s, b, i))(state, batch)


def _start(model, optimizer, key) -> dict:
    params = model.init(key)
    never = jnp.full((), -1, jnp.int32)
    return {
        "params": params,
        "optimizer": optimizer.init(params),
        "first": {"nonfinite_step": never, "nonfinite_depth": never},
    }


def _step(model, optimizer, state, batch, i):
    """The state after one update, and the reading of the backward pass that made it."""
    grads, reading = gradients.backward(model, state["params"], batch)
    updates, optimizer_state = optimizer.update(grads, state["optimizer"], state["params"])
    first = _first_nonfinite(state["first"], reading, i)
    after = {
        "params": optax.apply_updates(state["params"], updates),
        "optimizer": optimizer_state,
        "first": first,
    }
    return after, {**reading, **first}


def _first_nonfinite(first, reading, i):
    """Step and depth of the first reading that is not finite: forward, the lowest position; else backward, the highest."""
    stream, gradient = ~jnp.isfinite(reading["stream_rms"]), ~jnp.isfinite(reading["stream_gradient"])
    top = len(stream) - 1
    depth = jnp.where(
        stream.any(), jnp.argmax(stream), jnp.where(gradient.any(), top - jnp.argmax(gradient[::-1]), top)
    )
    now = (stream.any() | gradient.any() | ~jnp.isfinite(reading["loss"])) & (first["nonfinite_step"] < 0)
    found = {"nonfinite_step": jnp.asarray(i, jnp.int32), "nonfinite_depth": depth.astype(jnp.int32)}
    return {name: jnp.where(now, found[name], first[name]) for name in first}
