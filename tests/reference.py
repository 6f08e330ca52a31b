"""Slow, dense, obvious versions of what gradflow computes: Python loops, no scan, no meters, no equation (1).

Each wiring is written out as its paper has it, each layer as plain `jax.numpy` on the arrays of its parameters.
"""

import itertools
from functools import partial, singledispatch

import jax
import jax.numpy as jnp
import numpy as np

from gradflow.model.branches import branch as branches
from gradflow.model.branches.attention import Attention
from gradflow.model.layers import layer as layers
from gradflow.model.layers import norms
from gradflow.model.numerics.settings import usual_settings

# ---- layers -------------------------------------------------------------------------------------------------


@singledispatch
def apply(layer, params, x):
    """`layer(params, x)`, written again."""
    raise NotImplementedError(type(layer).__name__)


@apply.register
def _(layer: norms.LayerNorm, params, x):
    centred = x - x.mean(-1, keepdims=True)
    sigma = jnp.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    bias = jnp.broadcast_to(params.bias[...], x.shape) if layer.bias else 0
    return gain_of(layer, params, x) * centred / sigma + bias


@apply.register
def _(layer: norms.RMSNorm, params, x):
    return gain_of(layer, params, x) * x / jnp.sqrt((x**2).mean(-1, keepdims=True) + layer.eps)


def gain_of(norm, params, x):
    """What multiplies a token that was standardized."""
    if norm.scale == "none":
        return 1
    gain = jnp.broadcast_to(params.scale[...], x.shape)
    return {"gain": gain, "one_plus": 1 + gain}[norm.scale]


@apply.register
def _(layer: layers.Identity, params, x):
    return x


PHI = {
    "relu": lambda u: jnp.where(u > 0, u, 0),
    "gelu": lambda u: u * (1 + jax.scipy.special.erf(u / 2**0.5)) / 2,
    "silu": lambda u: u / (1 + jnp.exp(-u)),
}


def linear(params, x):
    y = x @ params.kernel[...]
    return y if params.bias is None else y + jnp.broadcast_to(params.bias[...], y.shape)


def untouched(x):
    return x


# What acts inside a branch is handed to it as a function.


@apply.register
def _(layer: branches.FeedForward, params, x, inner=untouched):
    return linear(params["down"], inner(PHI[layer.activation](linear(params["up"], x))))


@apply.register
def _(layer: branches.GatedFeedForward, params, x, inner=untouched, on_gate=untouched, on_up=untouched):
    gate = PHI[layer.activation](on_gate(linear(params["gate"], x)))
    return linear(params["down"], inner(gate * on_up(linear(params["up"], x))))


@apply.register
def _(layer: Attention, params, x, inner=untouched, heads=1, values=None, **norms):
    """`heads` has a number for each head, `norms` functions of queries, keys and values; `values` stand for those of `x`."""
    size, scale = layer.head or x.shape[-1] // layer.heads, layer.scale
    groups = layer.heads // (layer.kv_heads or layer.heads)
    of = dict(zip(("query", "key", "value"), x if x.ndim == 3 else (x, x, x), strict=True))
    gains, out = jnp.broadcast_to(jnp.asarray(heads), layer.heads), []
    for head in range(layer.heads):
        own = slice(head * size, (head + 1) * size)
        shared = slice(head // groups * size, (head // groups + 1) * size)
        q, k, v = (
            norms.get(name, untouched)(linear(params[name], of[name])[:, part])
            for name, part in (("query", own), ("key", shared), ("value", shared))
        )
        v = v if values is None else values[:, shared]
        if layer.rotary:
            q, k = turned(q, layer.rotary.base), turned(k, layer.rotary.base)
        scores = q @ k.T * (scale or 1 / np.sqrt(size))
        weight = jnp.exp(layer.softcap * jnp.tanh(scores / layer.softcap) if layer.softcap else scores)
        weight = weight * np.tril(np.ones(weight.shape)) if layer.causal else weight
        weight = weight * np.triu(np.ones(weight.shape), 1 - layer.window) if layer.window else weight
        out.append(gains[head] * (weight / weight.sum(-1, keepdims=True) @ v))
    return linear(params["out"], inner(jnp.concatenate(out, -1)))


def turned(x, base):
    """Pairs of features (i, i + h/2) as complex numbers, turned by the token's angle."""
    half = x.shape[-1] // 2
    turn = np.exp(1j * np.arange(len(x))[:, None] * base ** (-np.arange(half) / half))
    z = jax.lax.complex(x[:, :half], x[:, half:]) * turn
    return jnp.concatenate([z.real, z.imag], -1)


# ---- wirings, as published ----------------------------------------------------------------------------------


@usual_settings()
def sublayer(name: str, norm, branch, p, x, depth: int, layer: int):
    """`x'` of one sublayer in block `layer` = 1 … `depth`."""
    F = lambda u, **inside: apply(branch, p["branch"], u, **inside)
    N = lambda place, u: apply(norm, p[place], u)
    within = lambda place: lambda u: apply(norm, p["branch"][place], u)
    match name:
        case "pre":
            return x + F(N("norm_in", x))
        case "post":
            return N("norm_out", x + F(x))
        case "res_post":
            return x + N("norm_branch", F(x))
        case "sandwich":
            return x + N("norm_branch", F(N("norm_in", x)))
        case "none":
            return x + F(x)
        case "deepnorm":
            return N("norm_out", (2 * depth) ** (1 / 4) * x + F(x))
        case "admin":
            return N("norm_out", p["skip"]["gain"] * x + F(x))
        case "rezero":
            return x + p["write"]["gain"] * F(x)
        case "layerscale":
            return x + p["write"]["gain"] * F(N("norm_in", x))
        case "depth_scaled":
            return x + F(N("norm_in", x)) / np.sqrt(depth)
        case "everything":
            inner = N("norm_branch", F(N("norm_in", 1.1 * x)))
            return N("norm_out", p["skip"]["gain"] * x + p["write"]["gain"] * inner)
        case "layernorm_scaling":
            return x + F(N("norm_in", x) / np.sqrt(layer))
        case "keel":
            return N("norm_out", 2 * depth * x + F(N("norm_in", x)))
        case "keel_first":
            return N("norm_out", x + F(N("norm_in", x)))
        case "residual":
            y = F(x[0])
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[0] + y), x[1] + y])
        case "sub_ln":
            return x + F(N("norm_in", x), inner=within("inner"))
        case "deepscale":
            square = 2 / max(depth, 2)
            return np.sqrt(1 - square) * x + np.sqrt(square) * F(N("norm_in", x))
        case "fixup":
            bias = lambda u: u + p["branch"]["inner"]["shift"]
            return x + p["write"]["gain"] * F(x + p["norm_in"]["shift"], inner=bias)
        case "t_fixup":
            return x + F(x)
        case "ngpt":
            step = N("norm_branch", F(x)) - x
            return N("norm_out", x + p["write"]["gain"] * step)
        case "siamese":
            z = F(N("norm_in", x[0] + apply(norm, p["read"]["1"]["2"], x[1])))
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[0] + z / np.sqrt(2 * layer)), x[1] + z])
        case "normformer_attention":
            return x + N("norm_branch", F(N("norm_in", x), heads=p["branch"]["head_gain"]["gain"]))
        case "normformer_mlp":
            return x + F(N("norm_in", x), inner=within("inner"))
        case "hybrid_norm_attention":
            inside = {name: within(f"{name}_norm") for name in ("query", "key", "value")}
            return N("norm_out", x + F(x, **inside))
        case "hybrid_norm_mlp":
            return x + F(x)
        case "hybrid_norm_first":
            return x + F(N("norm_in", x), **{name: within(f"{name}_norm") for name in ("query", "key", "value")})
        case "parallel_attention":
            return jnp.stack([x[0] + F(N("norm_in", x[0])), x[0]])
        case "parallel_mlp":
            return jnp.stack([x[0] + F(N("norm_in", x[1])), 0 * x[1]])
        case "b2t_attention":
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[0] + F(x[0])), x[0]])
        case "b2t_mlp":
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[0] + F(x[0]) + x[1]), 0 * x[1]])
        case "huginn":
            return N("norm_out", x + F(N("norm_in", x)))
        case "gpas":
            y, g = x + F(N("norm_in", x)), p["norm_out"]["gate"]
            return y - g / (1 + jnp.exp(-g)) * jax.lax.stop_gradient(y)
        case "prores":
            return x + jnp.minimum(p["write"]["step"] / (1000 * layer), 1) * F(N("norm_in", x))
        case "adaln_zero":
            return x + conditioned(p["write"], "gate") * F(modulated(norm, p["norm_in"], x))
        case "highway":
            gate = 1 / (1 + jnp.exp(-(x @ p["write"]["weights"] + jnp.broadcast_to(p["write"]["bias"], x.shape))))
            return (1 - gate) * x + gate * F(x)
        case "laurel":
            low_rank = x + (x @ p["skip"]["down"]) @ p["skip"]["up"]
            return p["skip"]["gain"] * low_rank + p["write"]["gain"] * F(N("norm_in", x))
        case "geonorm":
            return jnp.stack([along_the_sphere(*pair) for pair in zip(x, F(x), strict=True)])
        case "span_norm_attention":
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[0] + F(x[0])), x[0]])
        case "span_norm_mlp":
            return jnp.stack([apply(norm, p["norm_out"]["1"], x[1] + F(x[0])), 0 * x[1]])
        case "nanochat_attention":
            z = sum(weight * lane for weight, lane in zip(p["read"]["matrix"], x, strict=True))
            return jnp.stack([z + F(N("norm_in", z)), x[1], x[2]])
        case "nanochat_mlp":
            new = x[0] + F(N("norm_in", x[0]))
            return jnp.stack([new, x[1], new if layer == depth // 2 + 1 else x[2]])
        case "value_residual_attention":
            u = apply(norm, p["norm_in"]["1"], x[0])
            own = linear(p["branch"]["value"], u)
            mix = own if layer == 1 else (own + x[1, :, : own.shape[-1]]) / 2
            filled = jnp.concatenate([own, jnp.zeros((len(own), u.shape[-1] - own.shape[-1]))], -1)
            return jnp.stack([x[0] + apply(branch, p["branch"], u, values=mix), filled if layer == 1 else x[1]])
        case "value_residual_mlp":
            return jnp.stack([x[0] + F(N("norm_in", x[0])), x[1]])
        case "unet_attention":
            below = x[: 1 + min(layer - 1, depth // 2)]
            across = 2 * (depth // 2) + 1 - layer
            skipped = 0 < across <= depth // 2 < layer
            z = x[0] + p["read"]["gain"] * x[across] if skipped else x[0]
            return put(x, len(below), {0: z + F(N("norm_in", z))})
        case "unet_mlp":
            new = x[0] + F(N("norm_in", x[0]))
            return put(x, 1 + min(layer - 1, depth // 2), {0: new, **({layer: new} if layer < len(x) else {})})
        case "denseformer_first":
            return put(x, 1, {1: x[0] + F(N("norm_in", x[0]))})
        case "denseformer_attention":
            z = sum(p["read"]["weights"][i] * x[i] for i in range(layer))
            return put(x, layer, {layer: z + F(N("norm_in", z))})
        case "denseformer_mlp":
            return put(x, layer, {layer: x[layer] + F(N("norm_in", x[layer]))})
        case "muddformer_first" | "muddformer_mlp":
            return sublayer(name.replace("muddformer", "denseformer"), norm, branch, p, x, depth, layer)
        case "muddformer_attention":
            q, k, v, r = multiway(p["read"], x[:layer], 4)
            normed = [apply(norm, p["norm_in"][str(i)], u) for i, u in enumerate((q, k, v), 1)]
            return put(x, layer, {layer: r + F(jnp.stack(normed))})
        case "deep_cross_attention_attention":
            q, k, v = feature_by_feature(p["read"], norm, x[:layer], 3)
            normed = [apply(norm, p["norm_in"][str(i)], u) for i, u in enumerate((q, k, v), 1)]
            return put(x, layer, {layer: F(jnp.stack(normed)), depth + 1: q})
        case "deep_cross_attention_mlp":
            return put(x, layer, {layer: x[layer] + F(N("norm_in", x[layer] + x[depth + 1]))})
        case "attn_res_1" | "attn_res_2" | "block_attn_res_1" | "block_attn_res_2":
            number = 2 * (layer - 1) + int(name[-1])
            size = int(np.ceil(2 * depth / 8)) if name.startswith("block") else 1
            group, written = int(np.ceil(number / size)), 1 + int(np.ceil((number - 1) / size))
            new = F(N("norm_in", over_depth(p["read"], x[:written], norm)))
            return put(x, written, {group: x[group] + new if group < written else new})
        case "mhc_lite_1" | "mhc_lite_2" | "kromhc_1" | "kromhc_2" | "jpmhc" | "mhc_v4":
            mixing = MIXING[name.removesuffix("_1").removesuffix("_2")]
            least = 1e-6 if name == "mhc_v4" else 0
            opened = lambda raw: 1 / (1 + jnp.exp(-raw))
            if name == "jpmhc":
                gains = {"read": manifold_gain, "write": manifold_gain}
                see = lambda gain, lanes: gains[gain](p[gain], lanes, gain)
            else:
                scale, more = {"read": (1, least), "write": (2, 0)}, raw_numbers
                see = lambda gain, lanes: scale[gain][0] * opened(more(p[gain], lanes)) + scale[gain][1]
            A = [mixing(raw_numbers(p["skip"], x[:, t])) for t in range(x.shape[1])]
            B, C = ([see(gain, x[:, t]) for t in range(x.shape[1])] for gain in ("write", "read"))
            return hyper_connected(A, B, C, x, lambda u: F(N("norm_in", u)))
        case "gated_residual":
            read, normed = gated_lanes(p["read"], norm, x)
            written = [share[:, None] * F(read) for share in shares(p["read"], normed)]
            return jnp.stack([lane + part for lane, part in zip(x, written, strict=True)])
        case "frac_connections":
            fractions = jnp.einsum("ij,jtf->itf", p["read"]["1"]["matrix"], x)
            y = F(N("norm_in", jnp.concatenate(list(fractions), -1)))
            own = jnp.split(y, len(x), -1)
            written = [p["write"]["2"][str(i)]["gain"] * part for i, part in enumerate(own, 1)]
            return jnp.einsum("ij,jtf->itf", p["skip"]["matrix"], x) + jnp.stack(written)
        case "hyper" | "dynamic" | "mhc":
            see = {"hyper": static_gain, "dynamic": partial(dynamic_gain, norm), "mhc": manifold_gain}[name]
            of_tokens = lambda gain: jax.vmap(lambda lanes: see(p[gain], lanes, gain), in_axes=1)(x)
            A, B, C = (of_tokens(gain) for gain in ("skip", "write", "read"))
            return hyper_connected(A, B, C, x, lambda u: F(N("norm_in", u)))
    raise NotImplementedError(name)


def conditioned(p, name):
    """A linear map of SiLU of the condition, by features."""
    c = p["condition"]
    return jnp.broadcast_to(c / (1 + jnp.exp(-c)) @ p[name]["kernel"] + p[name]["bias"], (1, len(c)))


def modulated(norm, p, x):
    return (1 + conditioned(p, "scale")) * apply(norm, p["norm"], x) + conditioned(p, "shift")


def along_the_sphere(x, f):
    """One token, on the great circle through x and the part of f that is orthogonal to it."""
    radius = jnp.sqrt(x @ x)
    v = f - (f @ x) / radius**2 * x
    length = jnp.sqrt(v @ v)
    return jnp.cos(length / radius) * x + radius * jnp.sin(length / radius) * v / length


def over_depth(p, lanes, norm):
    """Attention over depth: each token weighs the lanes by a softmax of one query."""
    scores = jnp.stack([apply(norm, p["norm"], lane) @ p["query"] for lane in lanes])
    weights = jnp.exp(scores) / jnp.exp(scores).sum(0, keepdims=True)
    return sum(weight[:, None] * lane for weight, lane in zip(weights, lanes, strict=True))


def multiway(p, lanes, ways):
    """Ways of reading the lanes, by a network of the newest one."""
    newest, n = lanes[-1], p["weights"].shape[1]
    unit = newest / jnp.sqrt((newest**2).mean(-1, keepdims=True) + 1e-6)
    said = (PHI["gelu"](unit @ p["in"]) @ p["out"]).reshape(len(newest), ways, n)
    weights = said + jnp.broadcast_to(p["weights"], said.shape)
    return [sum(weights[:, way, i, None] * lane for i, lane in enumerate(lanes)) for way in range(ways)]


def feature_by_feature(p, norm, lanes, ways):
    """Ways of reading the lanes, with a number for each feature and one for each token."""
    read = []
    for way in range(ways):
        seen = [apply(norm, p["norm"], lane) @ p["weights"][way] for lane in lanes]
        opened = [jnp.where(score > 0, score, 0)[:, None] + p["bias"][way, i][None] for i, score in enumerate(seen)]
        read.append(sum(gate * lane for gate, lane in zip(opened, lanes, strict=True)))
    return read


def put(x, written, lanes):
    """The lanes written so far, with some of them new; zero in the place of the others."""
    return jnp.stack([lanes.get(i, x[i] if i < written else 0 * x[i]) for i in range(len(x))])


# Gains between lanes of one token, from its features in all lanes, [lanes, features].


def hyper_connected(A, B, C, x, branch):
    """Lanes token by token, each with matrices of its own."""
    y = branch(jnp.stack([C[t] @ x[:, t] for t in range(x.shape[1])]))
    return jnp.stack([A[t] @ x[:, t] + jnp.outer(B[t], y[t]) for t in range(x.shape[1])], axis=1)


def static_gain(p, lanes, gain):
    return p["matrix"]


def dynamic_gain(norm, p, lanes, gain):
    """Row j of what is added is lane j's, as source; the paper's A_r is the transpose of A."""
    seen = jnp.stack([apply(norm, p["norm"], lane) @ p["weights"] for lane in lanes])
    return p["matrix"] + p["scale"] * jnp.tanh(seen.T if gain == "skip" else seen)


def manifold_gain(p, lanes, gain):
    flat = lanes.reshape(-1)
    unit = flat / jnp.sqrt((flat**2).mean() + 1e-6)
    raw = p["scale"] * jnp.tensordot(unit, p["weights"].reshape(flat.size, *p["bias"].shape), 1) + p["bias"]
    if gain != "skip":
        return {"read": 1, "write": 2}[gain] / (1 + jnp.exp(-raw))
    matrix = jnp.exp(raw)
    for _ in range(20):
        matrix = matrix / matrix.sum(0, keepdims=True)
        matrix = matrix / matrix.sum(1, keepdims=True)
    return matrix


def raw_numbers(p, lanes):
    """One token's raw numbers, from its features in all lanes side by side."""
    flat = lanes.reshape(-1)
    unit = flat / jnp.sqrt((flat**2).mean() + 1e-6)
    return p["scale"] * (unit @ p["weights"].reshape(flat.size, -1)) + p["bias"]


def permuted(raw):
    weights = jnp.exp(raw) / jnp.exp(raw).sum()
    orders = list(itertools.permutations(range(4)))
    return sum(weight * np.eye(4)[list(order)] for weight, order in zip(weights, orders, strict=True))


def kronecker(raw):
    stay = 1 / (1 + jnp.exp(raw[1::2] - raw[::2]))
    first, second = (p * np.eye(2) + (1 - p) * np.eye(2)[::-1] for p in stay)
    return jnp.kron(first, second)


def rotated(raw):
    skew = jnp.zeros((4, 4)).at[np.triu_indices(4, 1)].set(raw)
    skew = skew - skew.T
    return jnp.linalg.inv(np.eye(4) - skew) @ (np.eye(4) + skew)


def balanced(raw):
    """As in transformers: rows are lanes in."""
    square = raw.reshape(4, 4)
    matrix = jnp.exp(square) / jnp.exp(square).sum(1, keepdims=True) + 1e-6
    matrix = matrix / (matrix.sum(0, keepdims=True) + 1e-6)
    for _ in range(19):
        matrix = matrix / (matrix.sum(1, keepdims=True) + 1e-6)
        matrix = matrix / (matrix.sum(0, keepdims=True) + 1e-6)
    return matrix.T


MIXING = {"mhc_lite": permuted, "kromhc": kronecker, "jpmhc": rotated, "mhc_v4": balanced}


def gated_lanes(p, norm, x):
    """What is read of the lanes, and the lanes behind their norms."""
    normed = [apply(norm, p["norm"][str(i)], lane) for i, lane in enumerate(x)]
    flat, n = jnp.concatenate(normed, -1), len(x)
    hidden = flat @ p["down"].reshape(flat.shape[-1], -1) / n
    hidden = hidden / (1 + jnp.exp(-hidden))
    gates = 1 / (1 + jnp.exp(-(hidden @ p["up"].reshape(hidden.shape[-1], -1))))
    read = sum(gate * lane for gate, lane in zip(jnp.split(gates, n, -1), normed, strict=True)) / n
    return read, flat


def shares(p, flat):
    """The share of a branch that each lane takes."""
    n = p["inject"].shape[-1]
    return (2 / (1 + jnp.exp(-(flat @ p["inject"].reshape(flat.shape[-1], n) / n)))).T


def norm_of(value):
    """The one norm that a row of the table has in all its places, wherever in it; None where it has none."""
    if isinstance(value, norms.LayerNorm | norms.RMSNorm):
        return value
    held = value if isinstance(value, tuple) else vars(value).values() if hasattr(value, "__dict__") else ()
    return next((norm for norm in map(norm_of, held) if norm is not None), None)


def stream(model, params, x, nudges=None):
    """`[x_0, …, x_S]`, by a loop over blocks and sublayers; `nudges[l]` is added to x_l before it is used."""
    positions, at, block = [x], 0, 0
    nudge = lambda x, l: x if nudges is None else x + nudges[l]
    x = positions[0] = nudge(x, 0)
    for segment, stacked in zip(model.stack.segments, params["stack"], strict=True):
        for l in range(segment.repeats):
            block += 1
            for sub in segment.block:
                own = jax.tree.map(lambda a, l=l: a[l], stacked[sub.kind])
                at += 1
                new = sublayer(sub.wiring.name, norm_of(sub.wiring), sub.branch, own, x, model.depth, block)
                x = nudge(new, at)
                positions.append(x)
    return positions


def leave(model, params, x):
    """What is read out."""
    wiring, p = model.stack.sublayers[-1].wiring, params["leave"]
    match wiring.name:
        case "residual":
            return x[0] + apply(norm_of(wiring), p["1"]["2"], x[1])
        case "siamese":
            return apply(norm_of(wiring), p["3"], x[0] + apply(norm_of(wiring), p["1"]["2"], x[1]))
        case "parallel_mlp" | "value_residual_mlp":
            return apply(norm_of(wiring), p["2"], x[0])
        case "b2t_mlp":
            return x[0]
        case "adaln_zero":
            return modulated(norm_of(wiring), p, x)
        case "span_norm_mlp":
            return x[0]
        case "nanochat_mlp":
            return apply(norm_of(wiring), p["2"], sum(w * lane for w, lane in zip(p["1"]["matrix"], x, strict=True)))
        case "unet_mlp":
            return apply(norm_of(wiring), p["2"], x[0])
        case "denseformer_mlp":
            average = sum(weight * lane for weight, lane in zip(p["1"]["weights"], x, strict=True))
            return apply(norm_of(wiring), p["2"], average)
        case "muddformer_mlp":
            return apply(norm_of(wiring), p["2"], multiway(p["1"], x, 1)[0])
        case "deep_cross_attention_mlp":
            return apply(norm_of(wiring), p["2"], feature_by_feature(p["1"], norm_of(wiring), x[:-1], 1)[0])
        case "attn_res_2" | "block_attn_res_2":
            return apply(norm_of(wiring), p["2"], over_depth(p["1"], x, norm_of(wiring)))
        case "mhc" | "jpmhc":
            return apply(norm_of(wiring), p["2"], x.mean(0))
        case "mhc_lite_2" | "kromhc_2":
            return apply(norm_of(wiring), p["2"], x.sum(0))
        case "mhc_v4":
            gates = [1 / (1 + jnp.exp(-raw_numbers(p["1"], x[:, t]))) + 1e-6 for t in range(x.shape[1])]
            return apply(norm_of(wiring), p["2"], jnp.stack([g @ x[:, t] for t, g in enumerate(gates)]))
        case "gated_residual":
            return gated_lanes(p, norm_of(wiring), x)[0]
        case "frac_connections":
            return apply(norm_of(wiring), p["2"], jnp.concatenate(list(x), -1))
        case "hyper" | "dynamic":
            return apply(norm_of(wiring), p["2"], sum(w * lane for w, lane in zip(p["1"]["matrix"], x, strict=True)))
    return apply(wiring.leave, p, x)


def embedded(model, params, tokens):
    """The bottom of the stream."""
    tokens = tokens["tokens"] if isinstance(tokens, dict) else tokens
    x = params["embedding"]["token"].embedding[...][tokens]
    x = x + params["embedding"]["position"].embedding[...][: len(tokens)]
    wiring, p = model.stack.sublayers[0].wiring, params["enter"]
    match wiring.name:
        case "mhc" | "jpmhc" | "mhc_v4" | "gated_residual" | "mhc_lite_1" | "kromhc_1":
            return jnp.stack([x] * 4)
        case "frac_connections":
            return jnp.stack(jnp.split(x, 4, -1))
        case "hyper" | "dynamic":
            return jnp.stack([w * x for w in p["matrix"]])
        case "residual":
            return jnp.stack([x, x])
        case "siamese":
            return jnp.stack([apply(norm_of(wiring), p["2"]["1"], x), x])
        case "parallel_attention" | "b2t_attention" | "span_norm_attention" | "value_residual_attention":
            return jnp.stack([x, 0 * x])
        case "geonorm":
            return apply(norm_of(wiring), p, x)
        case "nanochat_attention":
            first = apply(norm_of(wiring), p["1"], x)
            return jnp.stack([first, first, 0 * first])
        case "unet_attention":
            first = apply(norm_of(wiring), p["1"], x)
            return jnp.stack([first] + [0 * first] * (model.depth // 2))
        case "denseformer_first" | "muddformer_first":
            return jnp.stack([x] + [0 * x] * model.depth)
        case "deep_cross_attention_attention":
            return jnp.stack([x] + [0 * x] * (model.depth + 1))
        case "attn_res_1":
            return jnp.stack([x] + [0 * x] * 2 * model.depth)
        case "block_attn_res_1":
            size = int(np.ceil(2 * model.depth / 8))
            return jnp.stack([x] + [0 * x] * int(np.ceil(2 * model.depth / size)))
        case "ngpt":
            return apply(norm_of(wiring), p, x)
        case "t_fixup":
            return x / (9 * model.depth) ** 0.25
    return x


def cross_entropy(logits, targets):
    """Mean over tokens of −log p(target)."""
    each = [jnp.log(jnp.exp(row).sum()) - row[t] for row, t in zip(logits, targets, strict=True)]
    return sum(each) / len(each)


def loss(model, params, example, nudges=None, top=0.0):
    """Loss of one example; `nudges` [S+1] are added to the stream, `top` to what is read out."""
    params = model.with_context(params, example["inputs"])
    x = stream(model, params, embedded(model, params, example["inputs"]), nudges)[-1]
    out = leave(model, params, x) + top
    return cross_entropy(linear(params["readout"], out), example["targets"])


def examples(batch):
    """The examples of a batch, one by one."""
    return [jax.tree.map(lambda a, i=i: a[i], batch) for i in range(len(batch["targets"]))]


def backward(model, params, batch) -> list:
    """Per example: its own loss, and the gradients with respect to parameters, stream [S+1] and what is read out."""
    size = model.stack.size
    bottom = embedded(model, params, examples(batch)[0]["inputs"])
    read_out = jax.eval_shape(model.leave, params, bottom)
    zeros = [jnp.zeros(bottom.shape)] * (size + 1), jnp.zeros(read_out.shape)
    pull = jax.jit(jax.value_and_grad(lambda p, e, nudges, top: loss(model, p, e, nudges, top), (0, 2, 3)))
    return [jax.device_get(pull(params, example, *zeros)) for example in examples(batch)]


# ---- signal -------------------------------------------------------------------------------------------------


def token_cosine(x) -> float:
    """Mean over all ordered pairs of different tokens."""
    x = np.asarray(x)
    pairs = [(t, s) for t in range(len(x)) for s in range(len(x)) if t != s]
    return np.mean([x[t] @ x[s] / np.linalg.norm(x[t]) / np.linalg.norm(x[s]) for t, s in pairs])


# ---- norms --------------------------------------------------------------------------------------------------


def norm_jacobian(x, eps: float, centre: bool):
    """`(1/σ)(I − 11ᵀ/d − x̂x̂ᵀ/d)`, without the `11ᵀ` where the norm does not centre; one token, gain 1."""
    d = len(x)
    mean = np.ones((d, d)) / d if centre else np.zeros((d, d))
    u = x - mean @ x
    sigma = np.sqrt(u @ u / d + eps)
    return (np.eye(d) - mean - np.outer(u, u) / sigma**2 / d) / sigma
