"""Streams of several lanes: what unconstrained and doubly stochastic skip matrices do to a signal over many sublayers."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from ..instruments.seeds import seed_keys
from ..model.branches.branch import FeedForward
from ..model.layers.lane_mixing import sinkhorn
from ..model.parameters.initializers import normal
from ..model.stacks.transformer import Transformer
from ..programs.measurement import measure
from ..results.reproduction import READ, SECONDARY, Equals, Scales, Source, Within
from ..results.tree import variable
from . import rows
from .entry import Entry
from .stacks import different_tokens, of_branches

LANES = 4
WHERE = {"hyper_connections": "matrix", "mhc": "bias"}  # what is moved of the skip's parameters


def _moved(model: Transformer, name: str, scale: float, seeds: int):
    """Returns fresh parameters of every seed whose skip matrices, or the logs they are made of, are moved by noise."""

    def draw(key):
        params = model.init(key)
        segments = []
        for i, segment in enumerate(params["stack"]):
            moved = {}
            for j, (kind, sublayer) in enumerate(segment.items()):
                start = sublayer["skip"][name]
                noise = normal(jax.random.fold_in(key, 100 * i + j), *start.shape)
                moved[kind] = {**sublayer, "skip": {**sublayer["skip"], name: start + scale * noise}}
            segments.append(moved)
        return {**params, "stack": tuple(segments)}

    return jax.jit(jax.vmap(draw))(seed_keys(0, seeds))


def _gains(*, depth: int, seeds: int, noise: float, strength: float) -> pd.DataFrame:
    """Returns composite gains of moved skip matrices, and column sums after 20 and 100 rounds of Sinkhorn."""
    branches = {"attention": FeedForward(1, bias=False), "mlp": FeedForward(1, bias=False)}
    made = []
    bottoms = {}
    for name, scale in (("hyper_connections", noise), ("mhc", strength)):
        model = of_branches(name, branches, depth, 8)
        params = _moved(model, WHERE[name], scale, seeds)
        node = measure(model, different_tokens(4), seeds=seeds, params=params, quantities=("composite_gain",))["model"]
        for side in ("forward", "backward"):
            gain = variable(node, "composite_gain").sel(side=side, drop=True)
            made += rows.curve(f"{name}, {side}", xr.ufuncs.exp(gain).rename("gain"), "depth")
            bottoms[name, side] = gain.isel(depth=0, drop=True)
            made.append(rows.number(f"{name}: log of the {side} gain of the whole stack", bottoms[name, side]))
    apart = bottoms["hyper_connections", "backward"] - bottoms["mhc", "backward"]
    made.append(rows.number("log of the backward gain, unconstrained over doubly stochastic", apart))
    made += _column_errors(seeds)
    return rows.table(made)


def _column_errors(seeds: int, spread: float = 8.0) -> list[rows.Row]:
    """Returns errors of row and column sums of matrices with logs of a wide spread, after 20 and 100 rounds."""
    logs = spread * normal(jax.random.key(0), 8 * seeds, LANES, LANES)
    errors = {}
    for rounds in (20, 100):
        matrices = jax.jit(sinkhorn, static_argnums=1)(logs, rounds)
        errors["row", rounds] = _worst(matrices.sum(-1), seeds)
        errors["column", rounds] = _worst(matrices.sum(-2), seeds)
    beyond_rows = errors["column", 20] - errors["row", 20]
    beyond_more = errors["column", 20] - errors["column", 100]
    return [
        rows.number("error of the worst column after 20 rounds, less that of the worst row", beyond_rows),
        rows.number("error of the worst column, 20 rounds less 100", beyond_more),
    ]


def _worst(sums, seeds: int) -> np.ndarray:
    """Returns the largest distance of a matrix's sums from 1, mean over the matrices of every seed."""
    largest = jnp.abs(sums - 1).max(-1)
    return np.asarray(largest).reshape(seeds, -1).mean(1)


GAINS = Entry(
    name="mhc-composite-gain",
    title="Composite gains of skip matrices between lanes, unconstrained and doubly stochastic",
    source=Source(
        "Xie et al.",
        2025,
        "2512.24880",
        "mHC: Manifold-Constrained Hyper-Connections",
        "figures 3, 7 and 8",
    ),
    published_setting="trained models of 27B parameters, 4 lanes; column sums 0.41, 1.50, 1.50, 0.60 of one matrix",
    our_setting="{depth} blocks of two sublayers, 4 lanes; identities moved by noise of {noise}, and logs of doubly stochastic "
    "matrices moved by noise of {strength}, {seeds} seeds",
    reduced="random matrices in the place of trained ones: their numbers (3000, 1.6) are compared by order alone",
    claims=(
        Within(
            "log of the backward gain, unconstrained over doubly stochastic",
            "hyper-connections: up to about 3000, mHC 1.6 (the order alone: how far apart depends on the noise)",
            READ,
            least=0.0,
        ),
        Within(
            "mhc: log of the backward gain of the whole stack",
            "mHC: at most about 1.6",
            READ,
            most=np.log(1.6),
        ),
        Equals(
            "mhc: log of the forward gain of the whole stack",
            "rows come last in Sinkhorn's rounds and sum to 1",
            READ,
            value=0.0,
            resolution=1e-3,
            allowance=1e-3,
        ),
        Within(
            "error of the worst column after 20 rounds, less that of the worst row",
            "the error is left in the columns: sums from 0.41 to 1.50",
            READ,
            least=0.0,
        ),
        Within(
            "error of the worst column, 20 rounds less 100",
            "with more rounds it goes (1.56/0.38 at the default, 1.05/0.93 at 100)",
            SECONDARY,
            least=0.0,
        ),
    ),
    measure=_gains,
    scales=Scales("sublayer", "composite gain from there to the top", log_y=True),
    sizes={
        "full": {"depth": 30, "seeds": 24, "noise": 0.2, "strength": 1.0},
        "quick": {"depth": 30, "seeds": 12, "noise": 0.2, "strength": 1.0},
        "toy": {"depth": 2, "seeds": 2, "noise": 0.2, "strength": 1.0},
    },
    minutes=0.6,
)
