"""Theory beside measurement at full size: every wiring × norm × feed-forward × mask, width 512, 12 blocks, real text.

    python tests/validation/theory.py [--seeds 32] [--post-seeds 180] [--only relu]

Writes `theory.csv` beside this file: for each combination the worst sublayer's ratio of the measured mean squared gradient to
the predicted, with its standard error, and the same of the stream's mean square and of the parameters' squared gradients.
Sums over seeds are kept in `theory-*.npz` in the working folder, so that a run that was stopped goes on.

All combinations of one kind of feed-forward share their draws: wirings and norms differ in factors that are not drawn.
"""

import time
from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf
from gradflow.instruments import gradients
from gradflow.model.init import at
from gradflow.model.layers import Attention, FeedForward, GatedFeedForward, LayerNorm, RMSNorm
from gradflow.model.stack import Transformer

WIRINGS = ("pre", "post", "res_post", "sandwich", "none", "deepnorm", "rezero", "layerscale", "depth_scaled")
POST = ("post", "deepnorm")
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
    for sub, other in zip(target.segments[0].block, source.segments[0].block, strict=True):
        mine, theirs = (s.layers["branch"].gains(width) for s in (sub, other))
        drawn = params["stack"][0][sub.kind]["branch"]
        branch = {n: jax.tree.map(lambda a, f=(mine[n] / theirs[n]) ** 0.5: f * a, own) for n, own in drawn.items()}
        rest = {name: layer for name, layer in sub.layers.items() if name != "branch"}
        fresh = lambda l, rest=rest: {name: layer.init(at(key, name, l), width) for name, layer in rest.items()}
        stack[sub.kind] = {**jax.vmap(fresh)(jnp.arange(DEPTH)), "branch": branch}
    wiring = target.segments[0].block[0].wiring
    return {**params, "stack": (stack,), "leave": wiring.leave.init(key, width)}


@partial(jax.jit, static_argnums=(0, 1))
def squares(target, source, params, batch):
    """Squares of what one backward pass reads."""
    read = gradients.reading(target, borrowed(target, source, params), batch)
    return {name: read[name] ** 2 for name in QUANTITIES}


def measured(mlp: str, batch, seeds: int, post_seeds: int) -> dict:
    """`{combination: {quantity: (n, Σ square, Σ square²)}}`, kept on disk."""
    models, path = combinations(mlp), Path(f"theory-{mlp.replace(' ', '-')}.npz")
    source = model("pre", "LayerNorm", mlp, "causal")
    draw = jax.jit(lambda key: source.init(key))
    sums = dict(np.load(path, allow_pickle=True)) if path.exists() else {}
    sums = {name: value.item() for name, value in sums.items()}
    done = max((sums[name]["n"] for name in sums), default=0)
    for seed in range(done, post_seeds):
        start = time.time()
        params = draw(jax.random.key(seed))
        for names, target in models.items():
            if seed >= seeds and names[0] not in POST:
                continue
            found = jax.device_get(squares(target, source, params, batch))
            own = sums.setdefault("/".join(names), {"n": 0})
            own["n"] += 1
            for name, value in found.items():
                value = value.astype(np.float64)
                first, second = own.get(name, (0.0, 0.0))
                own[name] = (first + value, second + value**2)
        if seed % 5 == 4 or seed == post_seeds - 1:
            np.savez(path, **{name: np.array(value, dtype=object) for name, value in sums.items()})
        print(f"{mlp}: seed {seed}, {time.time() - start:.1f} s", flush=True)
    return sums
