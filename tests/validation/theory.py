"""Theory beside measurement at full size: every wiring × norm × feed-forward × mask, width 512, 12 blocks, real text.

    python tests/validation/theory.py [--only relu]

Writes `theory.csv` beside this file: for each combination the ratio of the measured mean square to the predicted at the
worst place, with its standard error, of the stream gradient, the stream, the query and key matrices, and all other weights.
Hours on two cores: seeds are as many as the scatter of a wiring asks for. Sums over them are kept in `theory-*.npz` in the
working folder, so that a run that was stopped goes on.

All combinations of one kind of feed-forward share their draws: wirings and norms differ in factors that are not drawn.
"""

import argparse
import time
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.keys import at
from gradflow.model.stacks.transformer import Transformer

WIRINGS = ("pre", "post", "res_post", "sandwich", "none", "deepnorm", "rezero", "layerscale", "depth_scaled")
SEEDS = dict.fromkeys(WIRINGS, 32) | {"pre": 96, "sandwich": 128, "post": 560, "res_post": 640}
NORMS = {"LayerNorm": LayerNorm(), "RMSNorm": RMSNorm()}
MLPS = {"relu": FeedForward(4, "relu"), "gelu": FeedForward(4, "gelu"), "gated silu": GatedFeedForward(8 / 3, "silu")}
MASKS = {"causal": True, "bidirectional": False}
WIDTH, DEPTH, HEADS, CONTEXT, EXAMPLES = 512, 12, 8, 32, 1
QUANTITIES = ("stream_gradient", "stream_rms", "parameter_gradient")


def model(wiring: str, norm: str, mlp: str, mask: str) -> Transformer:
    """One combination."""
    attention = Attention(HEADS, causal=MASKS[mask])
    shape = {"depth": DEPTH, "width": WIDTH, "context": CONTEXT, "norm": NORMS[norm]}
    return gf.transformer(wiring, attention=attention, mlp=MLPS[mlp], **shape)


def combinations(mlp: str) -> dict[tuple, Transformer]:
    """All of one kind of feed-forward; where a wiring has no norm, the norm makes no difference."""
    named = [(w, n, mlp, m) for w, n, m in product(WIRINGS, NORMS, MASKS)]
    return {names: model(*names) for names in named if names[0] not in ("none", "rezero") or names[1] == "LayerNorm"}


def borrowed(target: Transformer, source: Transformer, params):
    """Parameters for `target` from those of a model that differs in wiring and norm alone, without drawing any again."""
    key, width = jax.random.key(0), target.width
    stack = {}
    for sub, other in zip(target.stack.segments[0].block, source.stack.segments[0].block, strict=True):
        mine, theirs = (s.layers["branch"].gains(width) for s in (sub, other))
        drawn = params["stack"][0][sub.kind]["branch"]
        branch = {n: jax.tree.map(lambda a, f=(mine[n] / theirs[n]) ** 0.5: f * a, own) for n, own in drawn.items()}
        rest = {name: layer for name, layer in sub.layers.items() if name != "branch"}
        fresh = lambda l, rest=rest: {name: layer.init(at(key, name, l), width) for name, layer in rest.items()}
        stack[sub.kind] = {**jax.vmap(fresh)(jnp.arange(DEPTH)), "branch": branch}
    wiring = target.stack.sublayers[0].wiring
    return {**params, "stack": (stack,), "leave": wiring.leave.init(key, width)}


@partial(jax.jit, static_argnums=(0, 1))
def squares(target, source, params, batch):
    """Squares of what one backward pass reads."""
    read = gradients.reading(target, borrowed(target, source, params), batch)
    return {name: read[name] ** 2 for name in QUANTITIES}


def measured(mlp: str, batch) -> dict:
    """`{combination: {quantity: (n, Σ square, Σ square²)}}`, kept on disk."""
    models, path = combinations(mlp), Path(f"theory-{mlp.replace(' ', '-')}.npz")
    source = model("pre", "LayerNorm", mlp, "causal")
    draw = jax.jit(lambda key: source.init(key))
    sums = {name: own.item() for name, own in np.load(path, allow_pickle=True).items()} if path.exists() else {}
    for seed in range(max(SEEDS.values())):
        start, params = time.time(), None
        for names, target in models.items():
            own = sums.setdefault("/".join(names), {"n": 0})
            if own["n"] > seed or seed >= SEEDS[names[0]]:
                continue
            params = draw(jax.random.key(seed)) if params is None else params
            own["n"] += 1
            for name, value in jax.device_get(squares(target, source, params, batch)).items():
                first, second = own.get(name, (0.0, 0.0))
                own[name] = (first + value.astype(np.float64), second + value.astype(np.float64) ** 2)
        if params is not None:
            print(f"{mlp}: seed {seed}, {time.time() - start:.1f} s", flush=True)
        if params is not None and (seed % 8 == 7 or seed == max(SEEDS.values()) - 1):
            np.savez(path, **{name: np.array(own, dtype=object) for name, own in sums.items()})
    return sums


# ---- beside theory ------------------------------------------------------------------------------------------


def worst(own: dict, predicted, quantity: str, **where) -> dict:
    """Where a quantity's mean square is furthest from the predicted one: the ratio there, its standard error, the place."""
    n = own["n"]
    places = predicted[quantity]
    first, second = (xr.DataArray(a, places.coords, places.dims) for a in own[quantity])
    scatter = np.sqrt(np.maximum(second / n - (first / n) ** 2, 0) / (n - 1))
    theory, monte_carlo = places.astype(float) ** 2, 2 * predicted[f"{quantity}_sem"] / places
    found = xr.Dataset({"ratio": first / n / theory, "error": np.hypot(scatter / theory, monte_carlo)}).sel(where)
    flat = found.stack(place=list(found.sizes)).dropna("place")
    if not flat.sizes["place"]:  # zero over zero: weights behind a gain that is zero
        return {"ratio": np.nan, "se": np.nan, "at": ""}
    at = flat.isel(place=int(np.abs(np.log(flat["ratio"].values)).argmax()))
    told = " ".join(str(at[dim].item()) for dim in found.sizes)
    return {"ratio": float(at["ratio"]), "se": float(at["error"]), "at": told}


def table(mlp: str, batch, sums: dict) -> pd.DataFrame:
    """One row a combination."""
    rows = []
    for names, target in combinations(mlp).items():
        own = sums["/".join(names)]
        predicted = gf.predict(target, batch, draws=16)["model"].to_dataset()
        scores = ["query", "key"]
        others = [name for name in predicted["parameter"].values if name not in scores and not name.endswith(".gain")]
        asked = {
            "stream_gradient": worst(own, predicted, "stream_gradient"),
            "stream_rms": worst(own, predicted, "stream_rms"),
            "weights": worst(own, predicted, "parameter_gradient", parameter=others),
            "query_key": worst(own, predicted, "parameter_gradient", parameter=scores),
        }
        columns = dict(zip(("wiring", "norm", "feed-forward", "mask"), names, strict=True))
        told = {f"{what}_{column}": value for what, place in asked.items() for column, value in place.items()}
        rows.append({**columns, "seeds": own["n"], "1-cosine": 1 - float(predicted["token_cosine"][-1]), **told})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=list(MLPS))
    only = parser.parse_args().only
    batch = gf.data.text(context=CONTEXT, batch=EXAMPLES).batch(jax.random.key(0), 0)
    frames = []
    for mlp in [only] if only else MLPS:
        frames.append(table(mlp, batch, measured(mlp, batch)))
        pd.concat(frames).to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
