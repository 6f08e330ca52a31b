"""An independent library: `torch.nn.TransformerEncoderLayer` with the same weights, to 1e-10 in float64.

Three blocks, each with a bias everywhere, between the same embedding and the same readout. Torch's `gelu` is the exact
one (erf), as ours is; its norms have eps = 1e-5, as ours have.

Axes: 3 examples, 5 tokens, 8 features; S = 6 sublayers.
"""

from dataclasses import dataclass
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.equation.sublayer import sublayer, walk
from gradflow.model.parameters.names import named, parameter_names

torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")

DEPTH, HEADS, RATIO = 3, 2, 3
CLOSE = 1e-10
NORM = {"pre": "norm_in", "post": "norm_out"}


@dataclass(frozen=True)
class Case:
    """One row of the comparison."""

    placement: str
    causal: bool
    activation: str


# Every pair of two settings once.
CASES = [Case("pre", True, "relu"), Case("pre", False, "gelu"), Case("post", True, "gelu"), Case("post", False, "relu")]
NAMES = [f"{c.placement}-{'causal' if c.causal else 'bidirectional'}-{c.activation}" for c in CASES]
rows = [pytest.param(c, id=name) for c, name in zip(CASES, NAMES, strict=True)]
over_cases = pytest.mark.parametrize("case", rows)


@cache
def ours(case: Case) -> dict:
    """Model, parameters, logits, what one backward pass reads, and the gradient of every entry of the stream."""
    model = gf.transformer(
        case.placement,
        depth=DEPTH,
        width=cases.WIDTH,
        context=cases.TOKENS,
        vocabulary=cases.VOCABULARY,
        attention=Attention(HEADS, causal=case.causal, bias=True),
        mlp=FeedForward(RATIO, case.activation, bias=True),
    )
    params, batch = cases.drawn(model), cases.batch(3)
    zeros = jnp.zeros((3, 2 * DEPTH, cases.TOKENS, cases.WIDTH))

    def nudged(params, nudges):
        """The loss with `nudges` [B, S, T, d] added to the stream."""
        visit = lambda x, parts, nudge: (sublayer(x + nudge, **parts), None)

        def example(inputs, targets, nudges):
            x, _ = walk(model.stack, params["stack"], model.enter(params, inputs), visit, nudges)
            return model.loss(params, model.leave(params, x), targets)

        return jax.vmap(example)(batch["inputs"], batch["targets"], nudges).mean()

    def everything(params, nudges):
        return {
            "logits": jax.vmap(model, (None, 0))(params, batch["inputs"]),
            "backward": gradients.backward(model, params, batch),
            "stream": jnp.moveaxis(jax.grad(nudged, 1)(params, nudges), 1, 0),
        }

    found = jax.device_get(jax.jit(everything)(params, zeros))
    return {"params": params, "batch": batch, "model": model, **found}


def tensor(array):
    """A float64 leaf."""
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=True)


def weights(block: dict, norm: str) -> dict:
    """Our parameters of one block under torch's names; the query, key and value projections are one matrix there."""
    attention, mlp = block["attention"]["branch"], block["mlp"]["branch"]
    projections = [attention[name] for name in ("query", "key", "value")]
    norms = {f"norm{i}": block[kind][norm] for i, kind in enumerate(("attention", "mlp"), start=1)}
    linears = {"self_attn.out_proj": attention["out"], "linear1": mlp["up"], "linear2": mlp["down"]}
    return {
        "self_attn.in_proj_weight": np.concatenate([p.kernel[...].T for p in projections]),
        "self_attn.in_proj_bias": np.concatenate([p.bias[...] for p in projections]),
        **{f"{name}.weight": p.kernel[...].T for name, p in linears.items()},
        **{f"{name}.weight": p.scale[...] for name, p in norms.items()},
        **{f"{name}.bias": p.bias[...] for name, p in {**linears, **norms}.items()},
    }


def torch_block(case: Case, block: dict):
    """One `TransformerEncoderLayer` with the weights of one of our blocks."""
    layer = torch.nn.TransformerEncoderLayer(
        cases.WIDTH,
        HEADS,
        RATIO * cases.WIDTH,
        dropout=0.0,
        activation=case.activation,
        layer_norm_eps=1e-5,
        batch_first=True,
        norm_first=case.placement == "pre",
        dtype=torch.float64,
    )
    layer.load_state_dict({name: tensor(array) for name, array in weights(block, NORM[case.placement]).items()})
    return layer


@cache
def theirs(case: Case) -> dict:
    """The same as `ours`, by torch: every tensor with its gradient."""
    own = ours(case)
    params, batch = own["params"], {name: torch.tensor(np.asarray(a)) for name, a in own["batch"].items()}
    blocks = [torch_block(case, jax.tree.map(lambda a, l=l: a[l], params["stack"][0])) for l in range(DEPTH)]
    outer = {name: tensor(table.embedding[...]) for name, table in params["embedding"].items()}
    outer["readout"] = tensor(params["readout"].kernel[...])
    mask = torch.nn.Transformer.generate_square_subsequent_mask(cases.TOKENS, dtype=torch.float64)
    seen: dict[str, list] = {"read": [], "enters_norm": [], "leaves_norm": []}  # at every norm, in depth order

    def note(name, tensor):
        tensor.retain_grad()
        seen[name].append(tensor)
        return tensor

    for norm in (norm for block in blocks for norm in (block.norm1, block.norm2)):
        # What a norm reads may also go round it: a copy has the gradient of this use alone.
        norm.register_forward_pre_hook(lambda _, inputs: note("enters_norm", note("read", inputs[0]).clone()))
        norm.register_forward_hook(lambda _, inputs, output: note("leaves_norm", output))
    bottom = outer["token"][batch["inputs"]] + outer["position"][: cases.TOKENS]
    bottom.retain_grad()
    x = bottom
    for block in blocks:
        x = block(x, src_mask=mask if case.causal else None)
    x.retain_grad()
    if case.placement == "pre":
        outer["leave.scale"], outer["leave.bias"] = (tensor(getattr(params["leave"], n)) for n in ("scale", "bias"))
        out = torch.nn.functional.layer_norm(x, (cases.WIDTH,), outer["leave.scale"], outer["leave.bias"], 1e-5)
    else:
        out = x
    logits = out @ outer["readout"]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
    out.retain_grad()
    loss.backward()
    # The stream between the sublayers: what a pre-norm reads, and what a post-norm returns.
    stream = [*seen["read"], x] if case.placement == "pre" else [bottom, *seen["leaves_norm"]]
    return {"loss": loss, "logits": logits, "stream": stream, "out": out, "blocks": blocks, "outer": outer, **seen}


def gradient(tensor) -> np.ndarray:
    """The gradient of a tensor."""
    return tensor.grad.numpy()


def assert_close(ours, theirs):
    """Every entry to 1e-10 of the largest."""
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=CLOSE * abs(theirs).max(), strict=True)


@over_cases
def test_logits_and_loss_are_torchs(case):
    _, reading = ours(case)["backward"]
    assert_close(ours(case)["logits"], theirs(case)["logits"].detach())
    assert reading["loss"] == pytest.approx(float(theirs(case)["loss"].detach()), rel=CLOSE)


@over_cases
def test_the_gradient_of_every_entry_of_the_stream_is_torchs(case):
    found, stream = ours(case)["stream"], theirs(case)["stream"]
    assert len(stream) == len(found) + 1
    for own, tensor in zip(found, stream, strict=False):
        assert_close(own, gradient(tensor))


@over_cases
def test_the_meters_read_torchs_stream_gradients_at_every_depth_and_token(case):
    _, reading = ours(case)["backward"]
    g = np.stack([gradient(tensor) for tensor in theirs(case)["stream"]])  # [S + 1, B, T, d]
    assert len(g) == 2 * DEPTH + 1
    np.testing.assert_allclose(reading["stream_gradient"], np.linalg.norm(g.reshape(len(g), -1), axis=1), rtol=CLOSE)
    np.testing.assert_allclose(reading["stream_gradient_by_token"], np.sqrt((g**2).sum((1, 3))), rtol=CLOSE)
    assert reading["readout_gradient"] == pytest.approx(np.linalg.norm(gradient(theirs(case)["out"])), rel=CLOSE)


@over_cases
def test_the_budget_of_the_norms_is_what_torchs_norms_do_to_the_gradient(case):
    _, reading = ours(case)["backward"]
    at = gf.results.quantities.FACTORS.index(NORM[case.placement])
    ends = zip(theirs(case)["enters_norm"], theirs(case)["leaves_norm"], strict=True)
    through = [np.linalg.norm(gradient(i)) / np.linalg.norm(gradient(o)) for i, o in ends]
    np.testing.assert_allclose(reading["budget"][:, at], np.log(through), rtol=0, atol=CLOSE)


@over_cases
def test_every_parameter_gradient_inside_the_stack_is_torchs(case):
    grads, reading = ours(case)["backward"]
    names = parameter_names(ours(case)["model"].stack, ours(case)["params"]["stack"])
    for l, block in enumerate(theirs(case)["blocks"]):
        mine = jax.tree.map(lambda a, l=l: a[l], grads["stack"][0])
        for name, own in weights(mine, NORM[case.placement]).items():
            assert_close(own, gradient(block.get_parameter(name)))
        norms = torch_norms(block, NORM[case.placement])
        for sub, expected in enumerate(norms):
            row = dict(zip(names, reading["parameter_gradient"][2 * l + sub], strict=True))
            assert {name for name, norm in row.items() if not np.isnan(norm)} == set(expected)
            scale = max(expected.values())
            for name, norm in expected.items():
                # The gradient of the key's bias is zero but for rounding: a softmax does not see a common shift.
                close = {"abs": CLOSE * scale} if name == "key.bias" else {"rel": CLOSE}
                assert row[name] == pytest.approx(norm, **close), (l, name)


def torch_norms(block, norm: str) -> tuple[dict, dict]:
    """`‖∂loss/∂W‖_F` by our names, of the attention's and the feed-forward's parameters."""
    length = lambda name: float(np.linalg.norm(gradient(block.get_parameter(name))))
    attention = {}
    for suffix, theirs in (("", "weight"), (".bias", "bias")):
        thirds = np.split(gradient(block.get_parameter(f"self_attn.in_proj_{theirs}")), 3)
        attention |= {
            f"{n}{suffix}": float(np.linalg.norm(g)) for n, g in zip(("query", "key", "value"), thirds, strict=True)
        }
    attention |= {"out": length("self_attn.out_proj.weight"), "out.bias": length("self_attn.out_proj.bias")}
    mlp = {"up": length("linear1.weight"), "up.bias": length("linear1.bias")}
    mlp |= {"down": length("linear2.weight"), "down.bias": length("linear2.bias")}
    of_norm = lambda name: {f"{norm}.scale": length(f"{name}.weight"), f"{norm}.bias": length(f"{name}.bias")}
    return attention | of_norm("norm1"), mlp | of_norm("norm2")


@over_cases
def test_every_parameter_gradient_outside_the_stack_is_torchs(case):
    grads, reading = ours(case)["backward"]
    mine = named({k: v for k, v in grads.items() if k != "stack"})
    outer = theirs(case)["outer"]
    assert set(mine) == set(outer)
    for (name, own), norm in zip(mine.items(), reading["outer_gradient"], strict=True):
        assert_close(own, gradient(outer[name]))
        assert norm == pytest.approx(np.linalg.norm(gradient(outer[name])), rel=CLOSE), name
