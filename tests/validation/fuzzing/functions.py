"""What takes more than a line to try: keys, settings of JAX, names that become files, and what is told."""

import functools
from collections import OrderedDict, defaultdict
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import gradflow as gf

from . import checks, world
from .checks import Wrong, need, same
from .trees import layers, leaf, stack, w
from .world import one, text, two

# ---- keys, settings -----------------------------------------------------------------------------------------


def different_batches(one_key: int, other: int) -> None:
    """Two keys draw two batches."""
    both = [
        np.asarray(text(8, 8).batch(jax.random.key(0) if key is None else key, 0)["inputs"]) for key in (one_key, other)
    ]
    need(not np.array_equal(*both), f"keys {one_key} and {other} draw one batch")


def different_weights(one_key: int, other: int) -> None:
    """And two sets of weights."""
    both = [np.asarray(jax.tree.leaves(one().init(key))[0]) for key in (one_key, other)]
    need(not np.array_equal(*both), f"keys {one_key} and {other} draw the same weights")


def same_draws_with_float64(key: int, context: int) -> None:
    """A key draws one batch, with and without 64-bit numbers."""
    drawn = []
    for wide in (False, True):
        jax.config.update("jax_enable_x64", wide)
        drawn.append(np.asarray(text(context, 8).batch(key, 3)["inputs"]))
    need(np.array_equal(*drawn), "another batch with jax_enable_x64")


def same_masks_with_float64(key: int) -> None:
    """Tokens that are asked for, likewise."""
    drawn = []
    for wide in (False, True):
        jax.config.update("jax_enable_x64", wide)
        data = gf.data.tokens(np.arange(200) % 50, name="a", sha256="0", context=16, batch=4, ahead=0, mask=3)
        drawn.append({name: np.asarray(a) for name, a in data.batch(key, 0).items()})
    need(all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0]), "other tokens with jax_enable_x64")


def measuring():
    """One measurement."""
    return gf.measure(one(), text(), seeds=1)


def predicting():
    """One prediction."""
    return gf.predict(one(), text(), draws=1, replicas=2)


def training():
    """One run."""
    return gf.train({"pre": one()}, text(), gf.Recipe(), steps=1, seeds=1, readings="economy")[1]


def sweeping():
    """One sweep."""
    return gf.sweep({"pre": one()}, text(), depth=(1,), seeds=1)


def of_function():
    """Somebody's own loss."""
    return gf.measure(layers, stack(), jnp.asarray(leaf(5, 2)), dials={"stream": jnp.zeros(3)}, stacked="layers")


def recording():
    """Somebody's own loop."""
    params = {"w": jnp.asarray(w)}
    optimizer = optax.chain(gf.record(stacked=None), optax.sgd(1.0))
    return gf.labelled(gf.recorded(optimizer.update(params, optimizer.init(params), params)[1]))


def unmoved(what, **setting) -> None:
    """The same numbers under other settings of JAX."""
    before = what()
    for name, value in setting.items():
        jax.config.update(name, value)
    same(before, what(), f"under {setting}", rtol=1e-4)


# ---- files, names -------------------------------------------------------------------------------------------


def resumed_is_the_same() -> None:
    """A run that is finished and resumed has the numbers of the first."""
    options = {"steps": 2, "seeds": 2, "record": (0, 1, 2), "checkpoints": "kept"}
    first = gf.train(two(), text(), gf.Recipe(), **options)[1]
    same(first, gf.train(two(), text(), gf.Recipe(), resume=True, **options)[1], rtol=0)


def kept() -> Path:
    """A file of results."""
    return gf.results.save(world.started(), Path("kept.nc"))


def saved_is_the_same() -> None:
    """What is loaded is what was saved."""
    again = gf.results.load(kept())
    same(world.started(), again, rtol=0)
    need(checks.attributes(again) == checks.attributes(world.started()), "other attributes")


@functools.cache
def renamed(*names: str):
    """A measurement whose models have these names."""
    return gf.measure(dict.fromkeys(names, one()), text(), seeds=2)


def names_of_figures(*names: str) -> None:
    """Every model's own figures exist beside each other, and the numbers of each are in the file."""
    world.command  # noqa: B018
    tree = renamed(*names)
    plt.Figure.savefig = world._stubbed
    gf.report.write(tree, "out")
    shown = sorted(Path("out/figures").glob("budget*.csv"))
    need(len(shown) == len(names), f"{len(shown)} figures of a budget for {len(names)} models")
    need(len(sorted(Path("out/figures").glob("budget*.pdf"))) == len(names), "pictures that overwrite each other")
    need(len({path.name.lower() for path in shown}) == len(names), "files that differ in case alone")
    same(tree, gf.results.load("out/results.nc"), rtol=0)


def checkpoints_apart(*names: str) -> None:
    """Models keep their runs apart: resumed, each has its own losses."""
    kinds = ("pre", "post", "none")
    models = {name: gf.transformer(kind, **world.SHAPE) for name, kind in zip(names, kinds, strict=False)}
    options = {"steps": 1, "seeds": 1, "readings": "economy", "checkpoints": "kept"}
    first = gf.train(models, text(), gf.Recipe(), **options)[1]
    same(first, gf.train(models, text(), gf.Recipe(), resume=True, **options)[1], rtol=0)


def compared_batches(key: int) -> None:
    """Measured with one key and predicted with another is another batch: it is refused or warned of, not compared in silence."""
    import warnings

    measured_ = gf.measure(two(), text(), seeds=2, key=key)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            gf.results.against_theory(measured_, world.foretold())
        except ValueError:
            return
    if not told:
        raise Wrong("compared with the theory of another batch, in silence")


def one_seed_has_no_interval() -> None:
    """Laws of one seed are told without an interval."""
    profile = gf.measure(gf.transformer("pre", **{**world.SHAPE, "depth": 4}), text(), seeds=1)["model"][
        "stream_gradient"
    ]
    told = gf.laws.sentence(gf.laws.fit(profile, gf.laws.exponential))
    need("±" not in told, f"an interval of one seed: {told}")


def not_finite_is_told() -> None:
    """A seed that is not finite is named, and the others are drawn."""
    weights = world.weights(3)
    broken = jax.tree.map(lambda a: a.at[1].set(jnp.nan), weights)
    import warnings

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tree = gf.measure({"own": one()}, text(), params={"own": broken})
    losses = np.asarray(tree["own"]["loss"])
    need(np.isfinite(losses).tolist() == [True, False, True], f"losses {losses}")
    need(any("own" in str(each.message) and "1" in str(each.message) for each in told), "nobody said which seed")
    plt.Figure.savefig = world._stubbed
    gf.report.write(tree, "out")
    table = Path("out/figures/stream_gradient.csv").read_text()
    need("own" in table, "the model is gone from the table")


__all__ = ["OrderedDict", "defaultdict"]
