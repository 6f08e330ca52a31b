"""Somebody's own losses over trees of every make; `LINES` are their cases.

A tree's loss is the sum over its leaves of i/2 · Σ|leaf|², so the gradient of leaf i has the norm i · ‖leaf‖, by numpy.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx

import gradflow as gf

from .cases import EITHER, REFUSED, RIGHT
from .checks import need

# ---- trees --------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Two leaves with names that libraries use."""

    weight: Any
    bias: Any


@functools.partial(jax.tree_util.register_dataclass, data_fields=["weight", "bias", "inner"], meta_fields=[])
@dataclasses.dataclass
class Held:
    """The same in a dataclass, with a tree inside."""

    weight: Any
    bias: Any
    inner: Any = None


@jax.tree_util.register_pytree_node_class
class Nameless:
    """A node that gives its children no names."""

    def __init__(self, *children):
        self.children = children

    def tree_flatten(self):
        return self.children, None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def leaf(*shape: int, seed: int = 0, dtype=np.float32):
    """Numbers of that shape."""
    return np.random.default_rng(seed + 7 * sum(shape)).normal(size=shape).astype(dtype)


def equinox_module():
    """A perceptron of Equinox's."""
    import equinox

    return equinox.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))


def equinox_arrays():
    """Its arrays alone."""
    import equinox

    return equinox.filter(equinox_module(), equinox.is_array)


def nnx_module():
    """A linear layer of Flax's."""
    return nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def linen_module():
    """Another."""
    return linen.Dense(3)


def torch_module():
    """PyTorch's."""
    import torch

    return torch.nn.Linear(2, 3)


def nnx_state():
    """The state of two layers."""
    return nnx.state({"a": nnx_module(), "b": nnx.LayerNorm(3, rngs=nnx.Rngs(0))})


w, b, c = leaf(2, 3), leaf(3), leaf(4, seed=2)
TREES: dict[str, Any] = {
    "{'w': w, 'b': b}": RIGHT,
    "{'a': {'w': w, 'b': b}, 'c': {'w': c}}": RIGHT,
    "[w, b, c]": RIGHT,
    "(w, (b, [c]))": RIGHT,
    "Pair(w, b)": RIGHT,
    "{'layer': Pair(w, b), 'other': Pair(c, w)}": RIGHT,
    "[Pair(w, b), Pair(w, c)]": RIGHT,
    "Pair(Pair(w, b), Pair(w, c))": RIGHT,
    "{'layer': Held(w, b)}": RIGHT,
    "Held(w, b, {'x': Held(c, w)})": RIGHT,
    "[Held(w, b), w]": RIGHT,
    "Nameless(w, b)": RIGHT,
    "{'a': Nameless(w, Nameless(b, c))}": RIGHT,
    "OrderedDict(z=w, a=b)": RIGHT,
    "defaultdict(dict, {'z': w, 'a': b})": RIGHT,
    "{1: w, 2: b}": RIGHT,
    "{'w': w, 'none': None}": RIGHT,
    "w": RIGHT,
    "jnp.float32(2.0)": RIGHT,
    "{'w': jnp.float32(3.0)}": RIGHT,
    "equinox_arrays()": RIGHT,
    "{'layers': [equinox_arrays(), equinox_arrays()]}": RIGHT,
    "nnx_state()": RIGHT,
    "{'s': nnx_state()}": RIGHT,
    "nnx.to_pure_dict(nnx_state())": RIGHT,
    "linen_module().init(jax.random.key(0), jnp.ones(2))": RIGHT,
    "jax.tree_util.Partial(max, w, b)": RIGHT,
    "{'a.b': w, 'a': {'b': b}}": EITHER,
    "{'a/b': w, 'a': {'b': b}}": EITHER,
    "{'branch': {'x': w}, 'x': b}": EITHER,
    "{'embedding': {'x': w}, 'x': b}": EITHER,
    "{'x': {'kernel': w}, 'x.kernel': b}": EITHER,
    "{'x': {'kernel': w, 'embedding': b}}": EITHER,
    "{'x': {'embedding': w}, 'y': {'kernel': b}}": RIGHT,
    "{'kernel': w, 'params': b}": EITHER,
    "{'': w, 'params': b}": EITHER,
    "{'': {'': w}}": EITHER,
    "{'x': w, 'x ': b}": EITHER,
    "{'é': w, 'e\\u0301': b}": EITHER,
    "{'a': [w, b], 'a.0': c}": EITHER,
    "{'a': Pair(w, b), 'a.weight': c}": EITHER,
    "{'branch': {'branch': {'x': w}}, 'branch.x': b}": EITHER,
    "{'x': Pair({'kernel': w}, {'kernel': b})}": EITHER,
    "{'x': {'kernel': Pair(w, b)}}": EITHER,
    "{1: w, '1': b}": EITHER,
    "{}": EITHER,
    "[]": EITHER,
    "None": EITHER,
    "{'w': w, 'empty': leaf(0, 3)}": EITHER,
    "{'z': w + 1j * w}": EITHER,
    "{'z': w + 1j, 'w': w}": EITHER,
    "Pair(w * 1j, b)": EITHER,
    "{'w': w.astype(jnp.bfloat16)}": EITHER,
    "{'w': w.astype(np.float16)}": EITHER,
    "{'w': 2.5, 'b': b}": EITHER,
    "{'w': w, 'n': np.arange(3)}": REFUSED,
    "{'w': w, 'n': 3}": REFUSED,
    "{'w': w, 'n': True}": REFUSED,
    "{'w': w, 'n': 'relu'}": REFUSED,
    "{'w': w, 'k': jax.random.key(0)}": REFUSED,
    "{'w': w, 'f': max}": REFUSED,
    "{'w': w, 'o': object()}": REFUSED,
    "{'w': np.array([None])}": REFUSED,
    "{'w': np.array(['a'])}": REFUSED,
    "equinox_module()": EITHER,
    "nnx_module()": EITHER,
    "torch_module()": REFUSED,
    "optax.adam(1.0).init({'w': w})": REFUSED,
}


def own_loss(params, batch):
    """Σ_i i/2 · Σ|leaf_i|²."""
    return sum(i / 2 * jnp.sum(jnp.abs(jnp.asarray(a)) ** 2) for i, a in enumerate(jax.tree.leaves(params), 1)) + 0.0


def of_tree(params, **options) -> None:
    """Every leaf has a name of its own, and the norm of its gradient."""
    node = gf.measure(own_loss, params, None, **options)["model"]
    expected = [i * np.linalg.norm(np.asarray(a, complex)) for i, a in enumerate(jax.tree.leaves(params), 1)]
    shown = np.asarray(node["outer_gradient"]) if "outer_gradient" in node else np.zeros(0)
    names = [str(name) for name in node["outer"].values] if "outer" in node else []
    need(len(set(names)) == len(names) == len(expected), f"{len(expected)} leaves, names {names}")
    need(np.allclose(sorted(shown), sorted(expected), rtol=2e-2), f"norms {shown}, by numpy {expected}")


def layers(params, batch, dials=None):
    """Three layers, with meters where dials are given."""
    x = batch
    for l in range(3):
        x = x if dials is None else gf.meter(x, dials["stream"][l])
        x = jnp.tanh(x @ params["layers"]["w"][l])
    return jnp.sum(x @ params["out"])


def stack(layers: int = 3) -> dict:
    """Its parameters."""
    return {"layers": {"w": leaf(layers, 2, 2)}, "out": leaf(2)}


def of_stack(**options) -> None:
    """Norms by layer are those by numpy of `jax.grad`."""
    node = gf.measure(layers, stack(), leaf(5, 2), **options)["model"]
    grads = jax.grad(layers)(stack(), leaf(5, 2))
    own = np.asarray(node["parameter_gradient"]).ravel()
    expected = np.linalg.norm(np.asarray(grads["layers"]["w"]).reshape(3, -1), axis=1)
    need(np.allclose(own, expected, rtol=1e-5), f"norms by layer {own}, by numpy {expected}")


def dials_of(length: int) -> None:
    """Meters at three places on one dial array: norms of the gradient there, by `jax.grad`."""
    dials = {"stream": jnp.zeros(length)}
    node = gf.measure(layers, stack(), leaf(5, 2), dials=dials)["model"]
    params, x, expected = stack(), jnp.asarray(leaf(5, 2)), []
    for l in range(3):
        above = {**params, "layers": {"w": params["layers"]["w"][l:]}}
        expected.append(np.linalg.norm(np.asarray(jax.grad(lambda x, p=above: _from(x, p))(x))))
        x = jnp.tanh(x @ params["layers"]["w"][l])
    need(np.allclose(np.asarray(node["stream"]), expected, rtol=1e-5), f"{node['stream'].values} for {expected}")


def _from(x, params):
    for w in params["layers"]["w"]:
        x = jnp.tanh(x @ w)
    return jnp.sum(x @ params["out"])


LINES = [(f"of_tree({code})", expected) for code, expected in TREES.items()]
LINES += [("of_stack(stacked='layers')", RIGHT), ("of_stack(stacked='layers', dials=None)", RIGHT)]
LINES += [
    (f"gf.measure(layers, {params}, leaf(5, 2), {options})", expected)
    for params, options, expected in (
        ("stack()", "stacked='layrs'", REFUSED),
        ("stack()", "stacked=3", REFUSED),
        ("stack()", "stacked=''", REFUSED),
        ("stack()", "stacked='out'", EITHER),
        ("stack()", "stacked=('layers',)", EITHER),
        ("{**stack(), 'layers': {'w': leaf(3, 2, 2), 'b': leaf(2)}}", "stacked='layers'", REFUSED),
        ("{**stack(), 'layers': {'w': leaf(3, 2, 2), 's': np.float32(1)}}", "stacked='layers'", REFUSED),
        ("Held(stack(), 1.0)", "stacked='layers'", REFUSED),
        ("[stack()]", "stacked='layers'", REFUSED),
        ("stack()", "dials={}", REFUSED),
        ("stack()", "dials=3", REFUSED),
        ("stack()", "dials=[0.0]", REFUSED),
        ("stack()", "dials={'stream': None}", REFUSED),
        ("stack()", "dials={'stream': 'x'}", REFUSED),
        ("stack()", "dials={'stream': jnp.zeros(3), 'other': jnp.zeros(2)}", REFUSED),
        ("stack()", "dials={'stream': jnp.zeros((3, 4))}", REFUSED),
        ("stack()", "dials={'stream': np.zeros(3)}", EITHER),
        ("stack()", "dials={'stream': [0.0, 0.0, 0.0]}", EITHER),
        ("stack()", "dials={'stream': jnp.zeros(3, int)}", EITHER),
        ("stack()", "dials={'stream': jnp.zeros(3, complex)}", EITHER),
        ("stack()", "dail={'stream': jnp.zeros(3)}", REFUSED),
        ("stack()", "seeds=3", REFUSED),
        ("stack()", "quantities=('backward',)", REFUSED),
    )
]
LINES += [
    (f"gf.measure({loss}, {{'w': w}}, None)", expected)
    for loss, expected in (
        ("lambda p, x: p['w']", REFUSED),
        ("lambda p, x: jnp.sum(p['w']) * 1j", REFUSED),
        ("lambda p, x: (jnp.sum(p['w']), 1)", REFUSED),
        ("lambda p, x: None", REFUSED),
        ("lambda p, x: 3", EITHER),
        ("lambda p, x: jnp.int32(3)", REFUSED),
        ("lambda p, x: 'loss'", REFUSED),
        ("lambda p, x: jnp.sum(p['w'])[None]", EITHER),
        ("lambda p: jnp.sum(p['w'])", REFUSED),
        ("lambda p, x, d: jnp.sum(p['w'])", REFUSED),
        ("lambda: 1.0", REFUSED),
        ("lambda p, x: jnp.nan * jnp.sum(p['w'])", EITHER),
        ("jax.jit(lambda p, x: jnp.sum(p['w']))", RIGHT),
        ("functools.partial(lambda a, p, x: jnp.sum(p['w']), 1)", RIGHT),
    )
]
LINES += [(f"recorded_norms({code})", expected) for code, expected in TREES.items() if expected == RIGHT]


def recorded_norms(params) -> None:
    """What a recorder in an optimizer reads of those trees: norms by numpy, names apart."""
    optimizer = optax.chain(gf.record("gradient", stacked=None), optax.sgd(1.0))
    tree = jax.tree.map(jnp.asarray, params)
    state = optimizer.update(jax.tree.map(lambda a: 2 * a, tree), optimizer.init(tree), tree)[1]
    node = gf.labelled(gf.recorded(state))["model"]
    expected = [2 * np.linalg.norm(np.asarray(a)) for a in jax.tree.leaves(tree)]
    names = [str(name) for name in node["outer"].values]
    need(len(set(names)) == len(names) == len(expected), f"{len(expected)} leaves, names {names}")
    shown = np.asarray(node["outer_gradient"]).ravel()
    need(np.allclose(sorted(shown), sorted(expected), rtol=1e-5), f"norms {shown}, by numpy {expected}")
