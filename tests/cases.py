"""The one table of wirings × norms × sublayers that the identity tests run over, and small models made from it.

Every row is tried with a stack whose block holds an attention and a feed-forward; three rows with one sublayer of each kind in
`BRANCHES`. Some rows have a stream of several lanes, some a wiring for each of two sublayers.

Axes: 5 tokens, 8 features; lanes in front.
"""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import jacobians
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward, GatedFeedForward
from gradflow.model.branches.rotary import Rotary
from gradflow.model.equation.sublayer import residual, walk, with_context
from gradflow.model.layers.lane_mixing import DynamicGains
from gradflow.model.layers.lanes import LaneGains, Then, gathered, mixed, spread
from gradflow.model.layers.layer import FeatureGain, Gain, ScalarGain
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Stack
from gradflow.model.stacks.transformer import Transformer, staged
from gradflow.model.wirings.catalogue import PLACEMENTS, placement
from gradflow.model.wirings.catalogue import WIRINGS as NAMED
from gradflow.model.wirings.placement import Placement
from gradflow.model.wirings.wiring import Wiring

TOKENS, WIDTH, VOCABULARY = 5, 8, 11
DEPTHS = (1, 3, 8)
NORMS = {"layernorm": LayerNorm(), "rmsnorm": RMSNorm()}
BRANCHES = {
    "causal": Attention(2),
    "bidirectional": Attention(4, kv_heads=2, causal=False, rotary=Rotary(), bias=True),
    "relu": FeedForward(2, "relu"),
    "gelu": FeedForward(2, "gelu"),
    "gated": GatedFeedForward(2),
}
TWO = {kind: BRANCHES[kind] for kind in ("causal", "gated")}


# ---- wirings of no paper ------------------------------------------------------------------------------------


def hyper(norm, name: str = "hyper", kind=LaneGains) -> Wiring:
    """A static hyper-connection of three lanes around a pre-norm branch."""
    return Wiring(
        name,
        skip=mixed((0.9, 0.1, 0.0), (0.05, 0.9, 0.05), (0.0, 0.1, 0.9), kind=kind),
        read=gathered(0.5, 0.3, 0.2, kind=kind),
        write=spread(1.0, 0.5, 0.2, kind=kind),
        norm_in=norm,
        enter=spread(1.0, 1.0, 1.0, kind=LaneGains),
        leave=Then((gathered(1.0, 1.0, 1.0, kind=LaneGains), norm)),
    )


def dynamic(norm) -> Wiring:
    """The same, with gains that read the stream."""
    return hyper(norm, "dynamic", partial(DynamicGains, norm=norm))


def everything(norm) -> Wiring:
    """All seven parts of equation (1) at once."""
    return Wiring(
        "everything",
        skip=FeatureGain(0.9),
        read=Gain(1.1),
        norm_in=norm,
        norm_branch=norm,
        write=ScalarGain(0.7),
        norm_out=norm,
        leave=norm,
    )


def keel(norm) -> Wiring:
    """Keel's, but for the first block."""
    return PLACEMENTS["keel"](norm).stages[-1].wirings[0]


# ---- the table ----------------------------------------------------------------------------------------------

CARRIED = ("span_norm", "nanochat", "unet")
SETS = ("jpmhc", "mhc_v4", "gated_residual", "frac_connections")
ON_SETS = ("mhc_lite", "kromhc")
HISTORY = ("denseformer", "attn_res", "block_attn_res")
SEVERAL = (
    "value_residual",
    "muddformer",
    "deep_cross_attention",
)  # inputs of a branch: parts of two sublayers differ in shape
# Placements whose attention and feed-forward are wired apart stand around the two branches of `TWO`.
PAIRS = ("normformer", "hybrid_norm", "parallel", "b2t", *CARRIED, *HISTORY, *SEVERAL, *ON_SETS)
ALL = {**NAMED, **{name: PLACEMENTS[name] for name in PAIRS}, "everything": everything}
ALL |= {"hyper": hyper, "dynamic": dynamic, "keel": keel}
WITHOUT_NORM = ("none", "rezero", "fixup", "t_fixup", "highway")
# As linear maps of one kind with another row, but for numbers: left out where a row costs many seconds.
GAINS = ("deepnorm", "keel", "admin", "layerscale", "depth_scaled", "layernorm_scaling", "rezero")
SIMILAR = (*GAINS, "deepscale", "fixup", "t_fixup", "huginn", "gpas", "prores", "adaln_zero", "laurel", *SETS, *PAIRS)
WITH_ALL = ("pre", "post", "everything")
# Whose gains read the stream.
READING = ("dynamic", "mhc", "highway", "attn_res", "block_attn_res", *SEVERAL[1:], *ON_SETS, *SETS[:3])
# One norm of each of these, several lanes, and gains that read the stream: every mechanism of equation (1).
EVERYWHERE = ("pre-layernorm", "everything-rmsnorm")
LANES = (
    "residual",
    "siamese",
    "hyper",
    "parallel",
    "b2t",
    "dynamic",
    "mhc",
    *CARRIED,
    *HISTORY,
    *SEVERAL,
    *ON_SETS,
    *SETS,
)
# Every wiring with the norms in turn; three of them with both.
TURNS = {name: NORMS if name in ("pre", "post", "everything") else [list(NORMS)[i % 2]] for i, name in enumerate(ALL)}
TURNS |= {name: ["rmsnorm"] for name in ("attn_res", "block_attn_res", *SEVERAL)}  # whose reads have one of their own
NAMES = [(name, norm) for name, norms in TURNS.items() for norm in norms if name not in WITHOUT_NORM]
NAMES += [(name, "layernorm") for name in WITHOUT_NORM]


def row(name: str, norm: str):
    """One row; marked `further` unless it is one of the few that every interpreter tries."""
    label = name if name in WITHOUT_NORM else f"{name}-{norm}"
    marks = () if label in EVERYWHERE or name == "residual" else pytest.mark.further
    return pytest.param(ALL[name](*([] if name in WITHOUT_NORM else [NORMS[norm]])), id=label, marks=marks)


def rows(without=()) -> list:
    """All rows but those of the wirings named."""
    return [row(*names) for names in NAMES if names[0] not in without]


over_wirings = pytest.mark.parametrize("wiring", rows())
over_single_lane_wirings = pytest.mark.parametrize("wiring", rows(without=LANES))


def branches_of(wiring: Wiring | Placement) -> dict:
    """The branches that a block of it holds: all five around the wirings in `WITH_ALL`, two around the others."""
    return BRANCHES if wiring.name in WITH_ALL else TWO


def model(wiring: Wiring | Placement, depth: int, branches=None, width: int = WIDTH) -> Transformer:
    """A small transformer whose block has one sublayer of each of `branches`."""
    stack = staged(placement(wiring), branches or branches_of(wiring), depth)
    return Transformer(stack, width, Embedding(VOCABULARY, TOKENS))


def shallower(stack, params, depth: int):
    """The first `depth` blocks of a stack of one segment, and their parameters."""
    return Stack((dataclasses.replace(stack.segments[0], repeats=depth),)), jax.tree.map(lambda a: a[:depth], params)


def normal(*shape: int, seed: int = 0):
    """Float64 draws from N(0, 1)."""
    return jax.device_put(np.random.default_rng(seed).normal(size=shape))


def float64(params):
    """The parameters in float64; cast by NumPy, since JAX would compile a program for each shape."""
    return jax.tree.map(lambda a: jax.device_put(np.asarray(a, np.float64)), params)


def drawn(model, seed: int = 0):
    """Its parameters in float64, each moved by 0.05 · normal, so that no gain is 1 and no bias 0.

    Where no norm holds the stream, they are made smaller, or a deep stack overflows.
    """
    noise = np.random.default_rng(seed)
    moved = jax.tree.map(lambda a: np.asarray(a) + 0.05 * noise.normal(size=a.shape), float64(model.init(seed)))
    size = 0.3 if model.stack.sublayers[0].wiring.name in ("none", "t_fixup") else 1.0
    return jax.device_put({**moved, "stack": jax.tree.map(lambda a: size * a, moved["stack"])})


def said(inputs):
    """An example, or several, with a step and a condition beside its tokens."""
    shape = np.shape(inputs)[:-1]
    return {"tokens": inputs, "step": jnp.full(shape, 700.0), "condition": normal(*shape, WIDTH, seed=5)}


def batch(examples: int = 2, tokens: int = TOKENS, seed: int = 0) -> dict:
    """Random tokens and targets."""
    pairs = np.random.default_rng(seed).integers(0, VOCABULARY, (2, examples, tokens))
    return jax.device_put({"inputs": pairs[0], "targets": pairs[1]})


def distance(a, b):
    """`‖a − b‖/‖b‖`."""
    xp = jnp if isinstance(b, jax.core.Tracer) else np
    return xp.linalg.norm(xp.ravel(a - b)) / xp.linalg.norm(xp.ravel(b))


def distances(a, b) -> dict:
    """`distance` of two trees leaf by leaf, by path."""
    paired = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return {jax.tree_util.keystr(path): float(distance(np.asarray(x), np.asarray(y))) for (path, x), y in paired}


# ---- compiled once ------------------------------------------------------------------------------------------

jit = jax.jit  # compiling.py has it compile quickly


@cache
def deepest(wiring: Wiring):
    """Model of the greatest depth, its parameters, and the bottom of its stream for one example."""
    deep = model(wiring, max(DEPTHS))
    inputs = batch()["inputs"][0]
    params = with_context(deep, drawn(deep), said(inputs))
    return deep, params, deep.enter(params, inputs)


@cache
def dense(wiring: Wiring) -> dict:
    """Dense Jacobians of the deepest model's sublayers and of all their parts, `{name: [S, outputs, inputs]}`.

    Where parts of two sublayers differ in shape, all are as large as the stream, with zeros.
    """
    deep, params, x = deepest(wiring)
    size = x.size if wiring.name in SEVERAL else 0

    def enlarged(matrix):
        return jnp.pad(matrix, [(0, max(0, size - own)) for own in matrix.shape])

    def visit(x, parts, _):
        return residual(x, parts), jax.tree.map(enlarged, jacobians.matrices(parts, x))

    found = jit(lambda p, x: walk(deep.stack, p, x, visit)[1])(params["stack"], x)
    return jax.device_get(found)


@cache
def read(wiring: Wiring) -> dict:
    """A stack of three blocks under a real loss: everything that one backward pass reads, and its gradients."""
    small = model(wiring, 3, TWO)
    params, data = drawn(small), batch()
    data = {**data, "inputs": said(data["inputs"])}
    grads, reading = jax.device_get(jit(lambda p, b: gradients.backward(small, p, b))(params, data))
    return {"model": small, "params": params, "batch": data, "grads": grads, "reading": reading}
