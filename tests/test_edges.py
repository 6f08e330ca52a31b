"""The edges: kind, input, and the right value or the one line that names the remedy."""

import dataclasses
import warnings
from typing import NamedTuple

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gradflow as gf
from gradflow.instruments.backward import gradients, noise
from gradflow.instruments.meters import meter
from gradflow.instruments.meters.dropout import dropped
from gradflow.instruments.meters.resolution import least_resolved, resolved
from gradflow.interop.functions import FunctionStack
from gradflow.model.inputs.batch import checked
from gradflow.model.parameters import names
from gradflow.model.parameters.keys import root
from gradflow.training.data import Tokens, masked
from gradflow.training.optimizers import OPTIMIZERS, Adam

TINY = {"depth": 1, "width": 8, "heads": 2, "context": 6, "vocabulary": 11}
IDS = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
BATCH = {"inputs": IDS[:, :-1], "targets": IDS[:, 1:]}
MODEL = gf.transformer("pre", **TINY)
TEXT = gf.data.text(context=6, batch=2)
BYTES = {**TINY, "vocabulary": 256}


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# ---- batches -------------------------------------------------------------------------------------------------

REFUSED = {
    "the names of another library": ({"input_ids": IDS, "labels": IDS}, "'input_ids': call tokens 'inputs'"),
    "labels": ({"inputs": IDS, "labels": IDS}, "'labels': call them 'targets'"),
    "a mask of another shape": ({**BATCH, "attention_mask": np.ones((2, 3))}, r"attention_mask has shape \(2, 3\)"),
    "a mask of nothing": ({**BATCH, "attention_mask": [[1] * 4, [0] * 4]}, "example 1 is padding alone"),
    "a misspelt key": ({"inptus": IDS, "targets": IDS}, "did you mean 'inputs'"),
    "no targets": ({"inputs": IDS}, "no 'targets'"),
    "nothing": ({}, "no 'inputs'"),
    "a column of targets": ({"inputs": IDS, "targets": IDS[:, :1]}, r"targets have shape \(2, 1\), inputs \(2, 5\)"),
    "another number of examples": ({"inputs": IDS, "targets": IDS[:1]}, "the same number of examples"),
    "one example without its axis": ({"inputs": IDS[0], "targets": IDS[0]}, r"\[B, T\]"),
    "no example": ({"inputs": IDS[:0], "targets": IDS[:0]}, "one at least"),
    "no token": ({"inputs": IDS[:, :0], "targets": IDS[:, :0]}, r"\[B, T\]"),
    "floats": ({**BATCH, "inputs": BATCH["inputs"] * 1.0}, "inputs are float64: tokens are whole numbers"),
    "truth values": ({**BATCH, "targets": BATCH["targets"] > 0}, "targets are bool"),
    "complex numbers": ({**BATCH, "inputs": BATCH["inputs"] * 1j}, "inputs are complex128"),
    "words": ({**BATCH, "inputs": [["a"] * 4] * 2}, "an array of numbers is needed"),
    "rows of other lengths": ({"inputs": [[1, 2], [3]], "targets": [[1, 2], [3]]}, "examples of one length"),
    "a token beyond the vocabulary": (
        {**BATCH, "inputs": BATCH["inputs"] + 300},
        "tokens from 301 to 309: model(/depth_1)? knows 0 to 10",
    ),
    "a target beyond it": ({**BATCH, "targets": BATCH["targets"] + 1}, "targets has tokens from 3 to 11"),
    "a negative token": ({**BATCH, "inputs": BATCH["inputs"] - 2}, "inputs has tokens from -1 to 7"),
    "a token that wraps": ({**BATCH, "inputs": BATCH["inputs"] + 2**40 + 5}, r"tokens from 1099511627782"),
    "an unsigned one": (
        {**BATCH, "inputs": BATCH["inputs"].astype("uint64") + 2**63},
        "tokens from 9223372036854775809",
    ),
    "too many tokens": (
        {"inputs": np.ones((1, 7), int), "targets": np.ones((1, 7), int)},
        "7 tokens, but model(/depth_1)? has 6 positions",
    ),
    "no target in an example": ({**BATCH, "targets": np.array([[1, 2, 3, 4], [-1] * 4])}, "example 1 has no target"),
    "a source and a target": ({**BATCH, "inputs": {"source": IDS, "target": IDS}}, "reads one array of tokens"),
    "a list": ([IDS, IDS], "the data are a list: .* a batch of tokens is"),
    "a path": ("text.txt", r"the data are a str: .* gf.data.text\(path\)"),
}


@pytest.mark.parametrize(
    "call", [gf.measure, gf.predict, lambda m, b: gf.sweep(m, b, depth=(1,))], ids=["measure", "predict", "sweep"]
)
@pytest.mark.parametrize(("batch", "line"), REFUSED.values(), ids=REFUSED)
def test_a_batch_that_is_none_is_one_line(batch, line, call):
    with pytest.raises((ValueError, TypeError), match=line) as refusal:
        call(MODEL, batch)
    one_line(refusal)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_of_every_width_are_the_same_tokens(dtype):
    found = checked({key: array.astype(dtype) for key, array in BATCH.items()}, {"pre": MODEL})
    for key, array in found.items():
        assert array.dtype == jnp.int32
        np.testing.assert_array_equal(array, BATCH[key])


@pytest.mark.parametrize("none", [-1, -2, -100, -(2**31), -(2**32) - 1, -(2**40), -(2**63)])
def test_every_negative_target_is_none(none):
    targets = np.array([[1, none, 3, 4], [5, 6, none, 8]])
    found = checked({**BATCH, "targets": targets}, {"pre": MODEL})
    np.testing.assert_array_equal(found["targets"], [[1, -1, 3, 4], [5, 6, -1, 8]])


def test_lists_are_arrays():
    found = checked({key: array.tolist() for key, array in BATCH.items()}, {"pre": MODEL})
    np.testing.assert_array_equal(found["inputs"], BATCH["inputs"])


def test_tensors_of_torch_are_arrays():
    torch = pytest.importorskip("torch")
    found = checked({key: torch.as_tensor(array.copy()) for key, array in BATCH.items()}, {"pre": MODEL})
    np.testing.assert_array_equal(found["targets"], BATCH["targets"])


def test_batches_of_each_seed_have_an_axis_in_front():
    own = {key: np.stack([array, array]) for key, array in BATCH.items()}
    assert checked(own, {"pre": MODEL}, leading=1)["inputs"].shape == (2, 2, 4)
    with pytest.raises(ValueError, match=r"\[seeds, B, T\]"):
        checked(BATCH, {"pre": MODEL}, leading=1)


def test_an_encoder_and_decoder_says_what_it_reads():
    sides = gf.architecture("transformer-base").scaled(depth=1, width=8).model().sides
    with pytest.raises(ValueError, match=r"give such inputs, or gf.data.Halves\(text\)"):
        checked(BATCH, sides)
    with pytest.raises(ValueError, match="inputs are 'source': "):
        checked({"inputs": {"source": IDS}, "targets": IDS}, sides)
    with pytest.raises(ValueError, match="measure them apart"):
        checked({"inputs": {"source": IDS, "target": IDS}, "targets": IDS}, {**sides, "pre": MODEL})


def test_a_text_beyond_a_models_vocabulary_is_refused_before_training():
    small = gf.transformers("pre", **{**TINY, "vocabulary": 100})
    with pytest.raises(ValueError, match="pre knows 0 to 99") as refusal:
        gf.train(small, TEXT, gf.Recipe(), steps=1)
    one_line(refusal)


def test_training_needs_data_that_batches_are_cut_from():
    with pytest.raises(TypeError, match="the data are a dict"):
        gf.train({"pre": MODEL}, BATCH, gf.Recipe(), steps=1)


# ---- models, weights and options -----------------------------------------------------------------------------


class Linear(nnx.Module):
    def __init__(self):
        self.linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.linear(x)


WEIGHTS = jax.tree.map(lambda a: a[None], MODEL.init(0))
CALLS = {
    "seeds of a half": (lambda: gf.measure(MODEL, BATCH, seeds=1.5), "seeds is 1.5: a whole number"),
    "no seed": (lambda: gf.measure(MODEL, BATCH, seeds=0), "seeds is 0: at least 1"),
    "a misspelt reading": (lambda: gf.measure(MODEL, BATCH, quantities="spektrum"), "did you mean 'spectrum'"),
    "a number for readings": (lambda: gf.measure(MODEL, BATCH, quantities=3), "quantities is 3"),
    "a negative key": (lambda: gf.measure(MODEL, BATCH, key=-1), "key is -1: at least 0"),
    "a key beyond 64 bits": (lambda: gf.predict(MODEL, BATCH, key=2**64), "at most 18446744073709551615"),
    "a key that is none": (lambda: gf.measure(MODEL, BATCH, key=0.5), "key is 0.5: a whole number"),
    "no model": (lambda: gf.measure({}, BATCH), "no model is given"),
    "a name that leads nowhere": (lambda: gf.measure({"a//b": MODEL}, BATCH), "a model is named 'a//b'"),
    "a name that is no text": (lambda: gf.measure({1: MODEL}, BATCH), "a model is named 1"),
    "a name with a line end": (lambda: gf.predict({"a\nb": MODEL}, BATCH), r"a model is named 'a\\nb'"),
    "a model inside another": (lambda: gf.measure({"a": MODEL, "a/b": MODEL}, BATCH), "lies inside 'a'"),
    "something else for a model": (lambda: gf.measure({"a": 3}, BATCH), "a is a int: a model is expected"),
    "a module for a model": (lambda: gf.measure({"a": Linear()}, BATCH), "a module of flax.nnx: measure it by itself"),
    "a module without its batch": (lambda: gf.measure(Linear(), {"inputs": 1}), "inputs and targets are needed"),
    "weights of a model that is not there": (
        lambda: gf.measure({"a": MODEL}, BATCH, params={"b": WEIGHTS}),
        "known: a",
    ),
    "weights without an axis of seeds": (
        lambda: gf.measure(MODEL, BATCH, params=MODEL.init(0)),
        r"lambda a: a\[None\]",
    ),
    "weights of another model": (
        lambda: gf.measure(gf.transformer("post", **TINY), BATCH, params=WEIGHTS),
        "the params lack stack.0.attention.norm_out",
    ),
    "weights of another width": (
        lambda: gf.measure(gf.transformer("pre", **{**TINY, "width": 4}), BATCH, params=WEIGHTS),
        r"has shape \(1, .*, but \(seeds, ",
    ),
    "a sweep over half a block": (lambda: gf.sweep(MODEL, BATCH, depth=(1.5,)), "depth is 1.5: a whole number"),
    "a width of zero": (lambda: gf.sweep(MODEL, BATCH, width=(0,)), "width is 0: at least 1"),
    "a depth of a half": (lambda: gf.transformer("pre", **{**TINY, "depth": 1.5}), "depth is 1.5: a whole number"),
    "a context of zero": (lambda: gf.transformer("pre", **{**TINY, "context": 0}), "context is 0: at least 1"),
    "heads of none": (lambda: gf.transformer("pre", **{**TINY, "heads": None}), "heads is None: a whole number"),
    "no number for the embedding": (
        lambda: gf.transformer("pre", embedding_rms=float("nan"), **TINY),
        "embedding_rms is nan",
    ),
    "a misspelt wiring": (lambda: gf.transformer("pots"), "did you mean 'post'"),
    "a number for a wiring": (lambda: gf.transformer(3), "a wiring is 3"),
    "a misspelt initialization": (lambda: gf.transformer("pre", init="fanin"), "did you mean 'fan_in'"),
    "a misspelt scale": (
        lambda: gf.transformer(gf.Wiring("mine", init_scales=(("qurey", 2.0),)), **TINY),
        "no matrix, whose initialization is to be scaled: 'qurey': did you mean 'query'",
    ),
    "a scale that is none": (
        lambda: gf.transformer(gf.Wiring("mine", init_scales=(("query", "2"),)), **TINY),
        r"Wiring.init_scales\[0\]\[1\] is '2'",
    ),
    "a misspelt place": (
        lambda: gf.transformer(gf.Wiring("mine", inner_layers=(("innner", gf.norms.RMSNorm()),)), **TINY),
        "sets 'innner' inside the branch",
    ),
    "a method for a place": (
        lambda: gf.transformer(gf.Wiring("mine", inner_layers=(("init", gf.norms.RMSNorm()),)), **TINY),
        "sets 'init' inside the branch",
    ),
    "no learning rate": (lambda: gf.Recipe(lr=None), "lr is None: a finite number is needed"),
    "an infinite learning rate": (lambda: gf.Recipe(lr=float("inf")), "lr is inf"),
    "a warm-up of a half": (lambda: gf.Recipe(warmup=0.5), "warmup is 0.5"),
    "a share above one": (lambda: Adam(b1=2), "b1 is 2: a finite number from 0 below 1"),
    "a negative decay": (lambda: Adam(weight_decay=-1), "weight_decay is -1"),
    "a misspelt optimizer": (lambda: gf.Recipe("adma"), "did you mean 'adam'"),
    "half a step": (
        lambda: gf.train({"pre": MODEL}, TEXT, gf.Recipe(), steps=3, record=(0.7,)),
        "a step of record is 0.7",
    ),
    "a run of no folder": (lambda: gf.train({"pre": MODEL}, TEXT, gf.Recipe(), resume=True), "checkpoints='folder/'"),
    "a folder that is no path": (lambda: gf.checkpoint(3), "a path is 3: a text or a pathlib.Path"),
    "a grid's checkpoints that are no path": (
        lambda: gf.experiments.grid({"pre": MODEL}, TEXT, {"a": gf.Recipe()}, checkpoints=1.5),
        "a path is 1.5: a text or a pathlib.Path",
    ),
    "no batches": (lambda: gf.measure(MODEL, BATCH, batches="shared"), "did you mean 'shared by seeds'"),
}


@pytest.mark.parametrize(("call", "line"), CALLS.values(), ids=CALLS)
def test_what_is_impossible_is_one_line(call, line):
    with pytest.raises((ValueError, TypeError), match=line) as refusal:
        call()
    one_line(refusal)


def test_one_reading_is_named_by_itself():
    tree = gf.measure(MODEL, BATCH, seeds=1, quantities="economy")
    assert "stream_gradient" in tree["model"]


@pytest.mark.long
def test_an_encoder_and_decoder_lies_inside_of_its_name():
    model = gf.architecture("transformer-base").scaled(depth=1, width=8, vocabulary=11).model()
    batch = {"inputs": {"source": IDS, "target": BATCH["inputs"]}, "targets": BATCH["targets"]}
    named, alone = (gf.measure(given, batch, seeds=1, quantities="economy") for given in ({"t5": model}, model))
    for side in model.sides:
        np.testing.assert_array_equal(named[f"t5/{side}"]["stream_gradient"], alone[side]["stream_gradient"])


def after_two_steps(optimizer) -> np.ndarray:
    run = gf.train(
        gf.transformers("pre", **BYTES), TEXT, optimizer, steps=2, record=(0, 2), seeds=1, readings="economy"
    )[1]
    return run["pre"]["loss"].values.ravel()


@pytest.mark.long
def test_an_optimizer_that_searches_along_a_line_is_handed_the_loss():
    start, end = after_two_steps(optax.lbfgs())
    assert end < start


def test_an_optimizer_that_waits_for_a_plateau_is_handed_the_loss():
    """Before it has waited long enough it is the rule in front of it."""
    waiting = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=10))
    np.testing.assert_array_equal(after_two_steps(waiting), after_two_steps(optax.sgd(0.1)))


# ---- the loss is the mean over all targets --------------------------------------------------------------------

RAGGED = {"inputs": BATCH["inputs"], "targets": np.array([[2, -1, -1, -1], [7, 8, 9, -100]])}


def logits_of(params) -> np.ndarray:
    """Logits of `MODEL` for the ragged batch, in float64."""
    return np.asarray(cases.jit(jax.vmap(MODEL, (None, 0)))(params, jnp.asarray(RAGGED["inputs"])), np.float64)


@cases.jit
def losses_of(params, batch) -> dict:
    """The loss of `MODEL`, as each of the functions that return it has it."""
    return {
        "bare": gradients.bare_loss(MODEL, params, batch),
        "read": gradients.reading(MODEL, params, batch)["loss"],
        "held out": gradients.heldout_loss(MODEL, params, batch)["heldout_loss"],
    }


def test_the_loss_of_ragged_targets_is_the_mean_over_all_of_them():
    """As PyTorch's cross_entropy and transformers have it, written out in NumPy."""
    params = cases.drawn(MODEL)
    logits = logits_of(params)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    asked = [-log_p[b, t, y] for b, row in enumerate(RAGGED["targets"]) for t, y in enumerate(row) if y >= 0]
    found = losses_of(params, checked(RAGGED, {"pre": MODEL}))
    for name in ("bare", "read", "held out"):
        assert float(found[name]) == pytest.approx(np.mean(asked), rel=1e-6)


def test_the_loss_of_ragged_targets_is_that_of_torch():
    torch = pytest.importorskip("torch")
    params = cases.drawn(MODEL)
    logits = logits_of(params)
    targets = np.where(RAGGED["targets"] < 0, -100, RAGGED["targets"])
    expected = torch.nn.functional.cross_entropy(
        torch.as_tensor(logits.copy()).reshape(-1, 11), torch.as_tensor(targets.copy()).reshape(-1)
    )
    found = losses_of(params, checked(RAGGED, {"pre": MODEL}))["bare"]
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_every_gradient_of_ragged_targets_is_that_of_this_mean():
    params, batch = cases.drawn(MODEL), checked(RAGGED, {"pre": MODEL})

    def mean_over_targets(params):
        log_p = jax.nn.log_softmax(jax.vmap(lambda tokens: MODEL(params, tokens))(batch["inputs"]))
        asked = [log_p[b, t, y] for b, row in enumerate(RAGGED["targets"]) for t, y in enumerate(row) if y >= 0]
        return -sum(asked) / len(asked)

    both = cases.jit(lambda p, b: (gradients.backward(MODEL, p, b)[0], jax.grad(mean_over_targets)(p)))
    grads, expected = both(params, batch)
    for own, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-12)


def test_gradients_of_single_examples_average_to_the_batchs_where_targets_are_ragged():
    """So that the noise of the gradient is what it is: the variance over examples about the batch's own gradient."""
    params, batch = cases.drawn(MODEL), checked(RAGGED, {"pre": MODEL})
    counts = (RAGGED["targets"] >= 0).sum(-1)
    grad = cases.jit(jax.grad(lambda p, b: gradients.bare_loss(MODEL, p, b)))
    own = [
        jax.tree.map(
            lambda g, n=n: np.asarray(g) * n / counts.mean(),
            grad(params, jax.tree.map(lambda a, i=i: a[i : i + 1], batch)),
        )
        for i, n in enumerate(counts)
    ]
    down = lambda tree: np.asarray(tree["stack"][0]["mlp"]["branch"]["down"].kernel[...])[0]
    mean = np.mean([down(g) for g in own], axis=0)
    np.testing.assert_allclose(mean, down(grad(params, batch)), rtol=1e-10)
    variance = sum(np.sum((down(g) - mean) ** 2) for g in own) / (len(own) - 1)
    found = cases.jit(lambda p, b: noise.per_example(MODEL, p, b))(params, batch)
    at = names.parameter_names(MODEL.stack, params["stack"]).index("down")
    assert float(found["gradient_variance"][1, at]) == pytest.approx(variance, rel=1e-9)


# ---- draws are the same whatever JAX is set to -----------------------------------------------------------------


def drawn_now() -> dict:
    key = root(2**32 + 7)
    tokens = Tokens("a text", np.arange(500) % 11, "", 6, 3, ahead=0, mask=10)
    return {
        "key": jax.random.key_data(key),
        "batch": TEXT.batch(3, 5)["inputs"],
        "masked": tokens.batch(3, 5)["inputs"],
        "hidden": masked(root(1), np.arange(40), np.arange(40), 7)["inputs"],
        "dropout": dropped(jnp.ones(40, jnp.float32), 0.3, root(1)),
        "weights": MODEL.init(3)["readout"].kernel[...],
    }


def test_draws_are_the_same_with_and_without_64_bits():
    with jax.enable_x64(False):
        narrow = jax.tree.map(np.asarray, drawn_now())
    with jax.enable_x64(True):
        wide = jax.tree.map(np.asarray, drawn_now())
    for name, values in narrow.items():
        np.testing.assert_array_equal(values, wide[name], err_msg=name)


def test_keys_beyond_32_bits_are_keys_of_their_own():
    assert not np.array_equal(jax.random.key_data(root(2**32 + 7)), jax.random.key_data(root(7)))
    np.testing.assert_array_equal(jax.random.key_data(root(np.int64(7))), jax.random.key_data(jax.random.key(7)))
    np.testing.assert_array_equal(
        jax.random.key_data(root(jax.random.PRNGKey(7))), jax.random.key_data(jax.random.key(7))
    )


# ---- names of parameters ---------------------------------------------------------------------------------------


class Pair(NamedTuple):
    weight: object
    bias: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    weight: object
    bias: object


def equinox_mlp():
    eqx = pytest.importorskip("equinox")
    return eqx.filter(eqx.nn.MLP(2, 2, 3, 1, key=jax.random.key(0)), eqx.is_inexact_array)


TREES = {
    "a named tuple": lambda: [Pair(jnp.ones(2), jnp.zeros(2))],
    "a dataclass": lambda: {"layers": [Layer(jnp.ones(2), jnp.zeros(2)), Layer(jnp.ones(2), jnp.zeros(2))]},
    "a module of NNX": lambda: nnx.state(Linear(), nnx.Param),
    "a module of Equinox": equinox_mlp,
    "keys that are left out of names": lambda: {"branch": {"down": jnp.ones(2)}, "down": {"kernel": jnp.ones(2)}},
    "keys with dots": lambda: {"a.b": jnp.ones(2), "a": {"b": jnp.ones(2)}},
    "a number and its digits": lambda: [{"0": jnp.ones(1), "a": jnp.ones(1)}, jnp.ones(1)],
}


@pytest.mark.parametrize("make", TREES.values(), ids=TREES)
def test_parameters_have_names_of_their_own_and_each_its_norm(make):
    params = jax.tree.map(lambda a: a + 0.5, make())

    def loss(params, batch):
        return sum(jnp.sum((i + 1) * leaf**2) for i, leaf in enumerate(jax.tree.leaves(params)))

    node = gf.measure(loss, params, None)["model"]
    found = dict(zip(node["outer"].values.tolist(), node["outer_gradient"].values, strict=True))
    expected = [np.linalg.norm(2 * (i + 1) * np.asarray(leaf)) for i, leaf in enumerate(jax.tree.leaves(params))]
    assert len(found) == len(expected)
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6)


@jax.tree_util.register_pytree_with_keys_class
class Twins:
    """A node whose children have one key."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def tree_flatten_with_keys(self):
        key = jax.tree_util.GetAttrKey("a")
        return ((key, self.a), (key, self.b)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


def test_two_parameters_of_one_path_are_refused():
    with pytest.raises(ValueError, match="two parameters have the path"):
        names.named(Twins(1, 2))


# ---- complex numbers -------------------------------------------------------------------------------------------


def test_a_complex_parameter_has_the_norm_of_its_moduli():
    params, x = {"w": jnp.array([1 + 2j, 3 - 1j])}, jnp.array([0.5, 2.0])
    loss = lambda p, x, dials: jnp.sum(jnp.abs(meter.meter(p["w"] * x, dials["z"])) ** 2)
    node = gf.measure(loss, params, x, dials={"z": jnp.zeros(())})["model"]
    z = np.asarray(params["w"]) * np.asarray(x)
    assert float(node["z"]) == pytest.approx(np.sqrt(np.sum(np.abs(2 * z) ** 2)), rel=1e-6)
    assert float(node["outer_gradient"][0]) == pytest.approx(np.linalg.norm(2 * z * np.asarray(x)), rel=1e-6)


def test_a_complex_stream_is_refused():
    stack = FunctionStack(lambda w, x: x * w, 2, lambda params, x, y: jnp.sum(jnp.abs(x - y)))
    params = stack.params(jnp.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="the stream is complex"):
        gf.measure(stack, {"inputs": np.ones((1, 3)) * 1j, "targets": np.ones((1, 3))}, params=params)


PARAMETERS = {
    "whole numbers": ({"w": jnp.ones(2), "step": jnp.array(3)}, "the parameter step is int"),
    "functions": ({"w": jnp.ones(2), "act": jnp.tanh}, "the parameter act is "),
    "keys": ({"w": jnp.ones(2), "rng": jax.random.key(0)}, "the parameter rng is key"),
}


@pytest.mark.parametrize(("params", "line"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_that_have_no_gradient_are_refused(params, line):
    with pytest.raises(ValueError, match=line) as refusal:
        gf.measure(lambda p, b: jnp.sum(p["w"] ** 2), params, None)
    one_line(refusal)


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (lambda p, b: p, r"the loss is float64\[2\]"),
        (lambda p, b: (p.sum(), {}), "the loss is a tuple"),
        (lambda p, b: p.sum() * 1j, r"the loss is complex128\[\]"),
        (lambda p, b: jnp.argmax(p), r"the loss is int"),
        (lambda p, b: None, "the loss is a NoneType"),
    ],
)
def test_a_loss_that_is_no_real_number_is_refused(loss, line):
    with pytest.raises(ValueError, match=line) as refusal:
        gf.measure(loss, jnp.ones(2), None)
    one_line(refusal)


# ---- underflow, and what is not finite --------------------------------------------------------------------------


def readings_of(stream, by_token=None, readout=1.0):
    stream = np.asarray(stream, np.float32)
    of_sublayers = np.zeros((len(stream) - 1, 2), np.float32)
    by_token = stream[:, None] if by_token is None else np.asarray(by_token, np.float32)
    return {
        "stream_gradient": stream,
        "stream_gradient_by_token": by_token,
        "readout_gradient": np.float32(readout),
        "budget": of_sublayers,
        "parameter_gradient": of_sublayers,
    }


def test_a_gradient_that_was_flushed_is_nan_and_one_that_is_zero_is_zero():
    flushed = resolved(readings_of([0, 0, 1e-26, 1e-12, 1]))
    np.testing.assert_array_equal(flushed["stream_gradient"], np.float32([np.nan, np.nan, 1e-26, 1e-12, 1]))
    assert np.isnan(flushed["budget"][:2]).all()
    assert np.isnan(flushed["parameter_gradient"][:3]).all()  # beneath, or beside, what is not resolved
    assert (flushed["parameter_gradient"][3:] == 0).all()
    zero = resolved(readings_of([0, 0, 1e-3, 1e-2, 1]))
    np.testing.assert_array_equal(zero["stream_gradient"], np.float32([0, 0, 1e-3, 1e-2, 1]))
    assert (zero["parameter_gradient"] == 0).all()


def test_a_token_that_gets_no_gradient_reads_zero():
    found = resolved(readings_of([1e-26, 1e-26], [[0, 1e-26], [0, 1e-26]]))
    np.testing.assert_array_equal(found["stream_gradient_by_token"][:, 0], [0, 0])


def test_wider_numbers_resolve_more():
    assert 1e-24 < least_resolved(np.float32) < 1e-23
    assert least_resolved(np.float64) < 1e-150


def attenuating(factor: float, depth: int):
    """A stack whose every layer multiplies by `factor`."""
    return FunctionStack(lambda w, x: x * w, depth, lambda params, x, y: jnp.sum(x)), jnp.full((1, depth, 1), factor)


def test_underflow_is_told_as_a_bound_and_then_as_nan():
    stack, w = attenuating(1e-3, 18)
    batch = {"inputs": np.ones((1, 2), np.float32), "targets": np.zeros((1, 2), np.float32)}
    with pytest.warns(
        UserWarning, match=r"upper bounds \(NaN: smaller than any number\): cast the parameters to float64"
    ):
        tree = gf.measure(stack, batch, params=stack.params(w.astype(jnp.float32)))
    stream = tree["model"]["stream_gradient"].values[0]
    exact = 2**0.5 * 1e-3 ** np.arange(18, -1.0, -1)
    kept = exact > 1e-23
    np.testing.assert_allclose(stream[kept], exact[kept], rtol=1e-5)
    assert (np.isnan(stream) | (stream >= 0.99 * exact)).all()
    assert np.isnan(stream[0])
    wide = gf.measure(stack, jax.tree.map(np.float64, batch), params=stack.params(w))
    np.testing.assert_allclose(wide["model"]["stream_gradient"].values[0], exact, rtol=1e-10)


def test_a_seed_that_is_not_finite_is_named_with_the_weight():
    weights = jax.vmap(MODEL.init)(jax.vmap(lambda i: jax.random.fold_in(root(0), i))(jnp.arange(3)))
    weights["embedding"]["token"].embedding = weights["embedding"]["token"].embedding.at[1, 3, 0].set(jnp.nan)
    with pytest.warns(
        UserWarning,
        match=r"model: not finite in seed 1 of 3: first the stream at stream position 0; of the given weights token holds 1 of",
    ):
        gf.measure(MODEL, BATCH, params=weights)


# ---- results say what they are of --------------------------------------------------------------------------------


def test_measurement_and_theory_of_one_batch_say_so():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured = gf.measure(MODEL, BATCH, seeds=1, quantities="economy")
        other = gf.measure(MODEL, {key: array[:, ::-1] for key, array in BATCH.items()}, seeds=1, quantities="economy")
    predicted = gf.predict(MODEL, BATCH, quantities="stream", replicas=2, draws=1)
    assert measured.attrs["batch_sha256"] == predicted.attrs["batch_sha256"]
    assert measured.attrs["batch_sha256"] != other.attrs["batch_sha256"]


def test_given_weights_are_told_by_their_hash():
    one = gf.measure(MODEL, BATCH, params=WEIGHTS, quantities="economy")
    other = gf.measure(MODEL, BATCH, params=jax.tree.map(lambda a: 1.5 * a, WEIGHTS), quantities="economy")
    assert one.attrs["weights_sha256"] != other.attrs["weights_sha256"]


def test_every_named_optimizer_has_constants_that_it_accepts():
    for rule in OPTIMIZERS.values():
        assert dataclasses.replace(rule) == rule
