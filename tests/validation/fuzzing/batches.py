"""Batches: keys, shapes, types and values of inputs and targets, for everything that reads them."""

import functools
from collections.abc import Iterator
from random import Random

import jax
import jax.numpy as jnp
import numpy as np

import gradflow as gf

from . import checks, world
from .cases import EITHER, REFUSED, RIGHT, Line, together
from .checks import need


def ints(*shape: int, low: int = 0, high: int = 256, dtype=np.int32, seed: int = 0):
    """Whole numbers of that shape, `low` to below `high`."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def put(array, value, at=(0, 0)):
    """The array with one entry changed, of a type that holds it."""
    wide = np.array(array, np.int64)
    wide[at] = value
    return wide


def holes(shape=(2, 8), *, row=None, seed: int = 0, value: int = -1):
    """Targets of which some are none; all of a `row`."""
    found = ints(*shape, seed=seed + 1)
    hidden = np.random.default_rng(seed).random(shape) < 0.5
    hidden[:, 0] = False
    found[hidden] = value
    if row is not None:
        found[row] = value
    return found


def tensor(array):
    """The same in PyTorch."""
    import torch

    return torch.tensor(np.asarray(array))


def read_only(array):
    """The same, not to be written to."""
    array.setflags(write=False)
    return array


def cross_entropy(model, params, inputs, targets) -> float:
    """The mean over all targets of −log softmax, by numpy in float64 from the model's logits."""
    total, logits_of = [], _logits(model)
    for row, own in zip(np.asarray(inputs), np.asarray(targets), strict=True):
        logits = np.asarray(logits_of(params, jnp.asarray(row, jnp.int32)), np.float64)
        logs = logits - logits.max(-1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
        total += [-logs[t, int(target)] for t, target in enumerate(own) if target >= 0]
    return float(np.mean(total))


@functools.cache
def _logits(model):
    return jax.jit(model)


def with_loss(batch, model=None, plain=None, **options) -> None:
    """The loss of given weights is that of numpy; `plain` is the batch as plain arrays, where it is not."""
    model = model or world.one()
    params = world.weights(1, model)
    tree = gf.measure(model, batch, params=params, **options)
    shown = plain or batch
    expected = cross_entropy(model, jax.tree.map(lambda a: a[0], params), shown["inputs"], shown["targets"])
    own = np.asarray(tree["model"]["loss"]).ravel()
    need(np.allclose(own, expected, rtol=1e-4), f"loss {own}, by numpy {expected:.6f}")
    gradient = np.asarray(tree["model"]["stream_gradient"])
    need(bool(np.isfinite(gradient).all()), "a gradient that is not finite")
    _gradient_of_the_loss(model, params, shown, np.asarray(tree["model"]["outer_gradient"])[0], tree)


def _gradient_of_the_loss(model, params, batch, norms, tree) -> None:
    """The norm of the readout's gradient is that of the loss over all targets."""
    inputs, targets = (np.asarray(batch[name]) for name in ("inputs", "targets"))
    targets = np.where(targets < 0, np.int64(-1), targets.astype(np.int64))  # a large one wraps around in 32 bits
    inputs, targets = (jnp.asarray(tokens, jnp.int32) for tokens in (inputs, targets))
    grads = _gradients(model)(jax.tree.map(lambda a: a[0], params), inputs, targets)
    expected = np.linalg.norm(np.asarray(jax.tree.leaves(grads["readout"])[0]))
    names = [str(name) for name in tree["model"]["outer"].values]
    own = norms[names.index("readout")]
    need(bool(np.isclose(own, expected, rtol=1e-3)), f"gradient of the readout {own}, by jax.grad {expected}")


@functools.cache
def _gradients(model):
    def loss(params, inputs, targets):
        logits = jax.vmap(lambda row: model(params, row))(inputs)
        logs = jax.nn.log_softmax(logits)
        own = jnp.take_along_axis(logs, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
        return -jnp.sum(jnp.where(targets >= 0, own, 0)) / jnp.sum(targets >= 0)

    return jax.jit(jax.grad(loss))


def whole_loss(batch, take) -> None:
    """A reading of the batch has a loss that is finite and positive."""
    checks.measured(take(batch))


INPUTS = {
    "ints(2, 8)": RIGHT,
    "ints(2, 8, dtype=np.int16)": RIGHT,
    "ints(2, 8, dtype=np.uint16)": RIGHT,
    "ints(2, 8, dtype=np.uint8)": RIGHT,
    "ints(2, 8, dtype=np.int64)": RIGHT,
    "ints(2, 8, dtype=np.uint64)": RIGHT,
    "ints(2, 8, dtype='>i4')": EITHER,
    "ints(2, 8, high=100, dtype=np.int8)": RIGHT,
    "jnp.asarray(ints(2, 8))": RIGHT,
    "ints(8, 2).T": RIGHT,
    "read_only(ints(2, 8))": RIGHT,
    "np.ma.masked_array(ints(2, 8))": EITHER,
    "ints(2, 8).tolist()": EITHER,
    "tuple(map(tuple, ints(2, 8).tolist()))": EITHER,
    "tensor(ints(2, 8))": EITHER,
    "tensor(ints(2, 8, dtype=np.int64))": EITHER,
    "pd.DataFrame(ints(2, 8))": EITHER,
    "xr.DataArray(ints(2, 8))": EITHER,
    "list(ints(2, 8))": EITHER,
    "np.zeros((2, 8), int)": RIGHT,
    "np.full((2, 8), 255)": RIGHT,
    "ints(2, 8).astype(np.float32)": REFUSED,
    "ints(2, 8).astype(float)": REFUSED,
    "jnp.asarray(ints(2, 8), jnp.bfloat16)": REFUSED,
    "ints(2, 8).astype(complex)": REFUSED,
    "ints(2, 8).astype(bool)": REFUSED,
    "ints(2, 8).astype(object)": REFUSED,
    "ints(2, 8).astype(str)": REFUSED,
    "ints(2, 8).astype('datetime64[D]')": REFUSED,
    "tensor(ints(2, 8).astype(float))": REFUSED,
    "ints(2, 8, 1)": REFUSED,
    "ints(1, 2, 8)": REFUSED,
    "ints(8)": REFUSED,
    "ints(16)": REFUSED,
    "ints(3, 8)": REFUSED,
    "ints(1, 8)": REFUSED,
    "ints(2, 7)": REFUSED,
    "ints(2, 9)": REFUSED,
    "ints(0, 8)": REFUSED,
    "ints(2, 0)": REFUSED,
    "ints()": REFUSED,
    "np.zeros(())": REFUSED,
    "[[1, 2], [3]]": REFUSED,
    "[]": REFUSED,
    "[[]]": REFUSED,
    "put(ints(2, 8), 256)": REFUSED,
    "put(ints(2, 8), 300)": REFUSED,
    "put(ints(2, 8), -1)": REFUSED,
    "put(ints(2, 8), -100)": REFUSED,
    "put(ints(2, 8), 2**31)": REFUSED,
    "put(ints(2, 8), 2**32 + 5)": REFUSED,
    "put(ints(2, 8), 2**40 + 5)": REFUSED,
    "put(ints(2, 8), -(2**63))": REFUSED,
    "put(ints(2, 8), 256, (1, 7))": REFUSED,
    "put(ints(2, 8), -1, (1, 7)).tolist()": REFUSED,
    "tensor(put(ints(2, 8), 2**40 + 5))": REFUSED,
    "put(ints(2, 8), 300).astype(np.uint16)": REFUSED,
    "ints(2, 8).astype(np.uint64) + np.uint64(2**63)": REFUSED,
    "None": REFUSED,
    "'text'": REFUSED,
    "3": REFUSED,
    "{'source': ints(2, 8)}": REFUSED,
    "object()": REFUSED,
    "iter([1])": REFUSED,
    "b'bytes'": REFUSED,
    "text()": REFUSED,
}
TARGETS = {
    **{
        code: verdict
        for code, verdict in INPUTS.items()
        if "-1" not in code and "-100" not in code and "-(2" not in code
    },
    "put(ints(2, 8), -1)": RIGHT,
    "put(ints(2, 8), -100, (1, 7))": RIGHT,
    "put(ints(2, 8), -(2**63))": EITHER,
    "put(ints(2, 8), -(2**40))": EITHER,
    "holes()": RIGHT,
    "holes(seed=3)": RIGHT,
    "holes(value=-100)": RIGHT,
    "holes(seed=5, value=-7)": RIGHT,
    "holes(seed=4).astype(np.int16)": RIGHT,
    "holes(seed=6).astype(np.int64)": RIGHT,
    "tensor(holes(seed=7))": EITHER,
    "holes().tolist()": EITHER,
    "holes(row=0)": REFUSED,
    "holes(row=1)": REFUSED,
    "np.full((2, 8), -1)": REFUSED,
    "np.full((2, 8), -100)": REFUSED,
    "ints(2, 1)": REFUSED,
    "ints(2)": REFUSED,
    "ints(1, 1)": REFUSED,
    "holes(seed=2).astype(float)": REFUSED,
    "put(holes(), 256)": REFUSED,
}
X, Y = "ints(2, 8)", "ints(2, 8, seed=1)"
KEYS = {
    f"{{'input_ids': {X}, 'labels': {Y}}}": REFUSED,
    f"{{'inputs': {X}, 'labels': {Y}}}": REFUSED,
    f"{{'input_ids': {X}, 'targets': {Y}}}": REFUSED,
    f"{{'inputs': {X}}}": REFUSED,
    f"{{'targets': {Y}}}": REFUSED,
    "{}": REFUSED,
    f"{{'inputs': {X}, 'targets': {Y}, 'attention_mask': np.ones((2, 8), int)}}": RIGHT,
    f"{{'inputs': {X}, 'targets': {Y}, 'mask': np.ones((2, 8), int)}}": REFUSED,
    f"{{'inputs': {X}, 'targets': {Y}, 'position_ids': {X}}}": REFUSED,
    f"{{'inputs': {X}, 'targets': {Y}, 'token_type_ids': {X}}}": REFUSED,
    f"{{'inputs': {X}, 'targets': {Y}, 'more': None}}": REFUSED,
    f"{{'inputs': {X}, 'targets': {Y}, 3: 4}}": REFUSED,
    f"{{'Inputs': {X}, 'Targets': {Y}}}": REFUSED,
    f"{{'input': {X}, 'target': {Y}}}": REFUSED,
    f"{{b'inputs': {X}, b'targets': {Y}}}": REFUSED,
    f"{{'inputs': {{'source': {X}, 'target': {Y}}}, 'targets': {Y}}}": REFUSED,
    f"({X}, {Y})": REFUSED,
    f"[{X}, {Y}]": REFUSED,
    f"{X}": REFUSED,
    f"[{{'inputs': {X}, 'targets': {Y}}}]": REFUSED,
    f"OrderedDict(inputs={X}, targets={Y})": RIGHT,
    f"types.MappingProxyType({{'inputs': {X}, 'targets': {Y}}})": EITHER,
    f"xr.Dataset({{'inputs': (('b', 't'), {X}), 'targets': (('b', 't'), {Y})}})": EITHER,
    "pd.DataFrame({'inputs': [1], 'targets': [2]})": REFUSED,
    f"iter([{{'inputs': {X}}}])": REFUSED,
}
TAKES = {
    "lambda b: gf.measure(one(), b, seeds=1)": 4,
    "lambda b: gf.measure(two(), b, seeds=1)": 2,
    "lambda b: gf.measure(one(), b, seeds=1, quantities=('partial_jacobian',))": 1,
    "lambda b: gf.predict(one(), b, draws=1, replicas=2)": 3,
    "lambda b: gf.sweep({'pre': one()}, b, depth=(1,), seeds=1)": 2,
    "lambda b: gf.sweep({'pre': one()}, b, depth=(1,), take=gf.predict, draws=1, replicas=2)": 1,
    "lambda b: gf.measure(gf.transformers('admin', **SHAPE), b, seeds=1)": 0.5,
    "lambda b: gf.train({'pre': one()}, b, gf.Recipe(), steps=1, seeds=1)": 0.7,
}
MODELS = ("", ", bidirectional()")


def variants(chance: Random) -> Iterator[Line]:
    """Batches, for one of their readers each, without end."""
    readers, shares = list(TAKES), list(TAKES.values())
    while True:
        verdicts, parts = [], {"inputs": X, "targets": Y}
        for name in chance.sample(("inputs", "targets"), 1 + (chance.random() < 0.1)):
            pool = INPUTS if name == "inputs" else TARGETS
            parts[name] = chance.choice(list(pool))
            verdicts.append(pool[parts[name]])
        batch, verdict = f"{{'inputs': {parts['inputs']}, 'targets': {parts['targets']}}}", together(verdicts)
        if chance.random() < 0.15:
            batch, verdict = chance.choice(list(KEYS.items()))
        reader = chance.choices(readers, shares)[0]
        if "gf.train" in reader:
            verdict = REFUSED  # it draws its batches from a text
        elif "predict" in reader and verdict == RIGHT and ("holes" in batch or "-1" in batch):
            verdict = EITHER
        yield Line(f"whole_loss({batch}, {reader})", verdict)


def losses() -> Iterator[Line]:
    """What ran, against numpy."""
    for targets, verdict in TARGETS.items():
        if verdict != REFUSED:
            plain = targets.replace("tensor(", "np.asarray(").replace(".tolist()", "")
            for model in MODELS:
                given = f"{{'inputs': {X}, 'targets': {targets}}}"
                yield Line(f"with_loss({given}{model}, plain={{'inputs': {X}, 'targets': {plain}}})", verdict)
    for inputs, verdict in INPUTS.items():
        if verdict != REFUSED:
            given = f"{{'inputs': {inputs}, 'targets': {Y}}}"
            yield Line(f"with_loss({given}, plain={{'inputs': np.asarray({inputs}), 'targets': {Y}}})", verdict)
    for seed in range(40):
        holed = f"holes(seed={seed})"
        yield Line(f"with_loss({{'inputs': ints(2, 8, seed={seed}), 'targets': {holed}}})", RIGHT)


def lines(chance: Random) -> Iterator[Line]:
    """Of all of these."""
    for batch, verdict in KEYS.items():
        yield Line(f"whole_loss({batch}, lambda b: gf.measure(one(), b, seeds=1))", verdict)
    yield from losses()
    yield from variants(chance)
