"""The original Transformer against torch's own `nn.Transformer`, encoder and decoder, in float64: values and all gradients.

Two encoder blocks and three decoder blocks between the same embedding, which is the readout too; labels smoothed by 0.1.

Axes: 3 examples, 6 tokens of the source, 5 of the target; 8 features.
"""

from dataclasses import dataclass, replace
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import streams

from gradflow.instruments.backward import gradients
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.branches.cross_attention import CrossAttention
from gradflow.model.inputs.batch import checked
from gradflow.model.layers.norms import LayerNorm
from gradflow.model.parameters.names import named
from gradflow.model.stacks.embedding_readout import Sinusoidal
from gradflow.model.stacks.encoder_decoder import EncoderDecoder, smoothed_cross_entropy
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.wirings.wiring import post, pre

torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")
# Torch says that pre-norm has no fast path.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:enable_nested_tensor")]

WIDTH, HEADS, RATIO, SOURCE, TARGET, VOCABULARY = 8, 2, 3, 6, 5, 11
DEPTH = {"encoder": 2, "decoder": 3}
SMOOTHING = 0.1


@dataclass(frozen=True)
class Case:
    """One row: where the norms are, and whether each stack ends with one."""

    norm: str
    final: bool
    activation: str


CASES = {"post": Case("norm_out", False, "relu"), "post-final": Case("norm_out", True, "gelu")}
CASES |= {"pre": Case("norm_in", True, "relu")}
over_cases = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


def model(case: Case) -> EncoderDecoder:
    """Ours."""
    wiring = {"norm_out": post(), "norm_in": pre()}[case.norm]
    wiring = replace(wiring, leave=LayerNorm() if case.final else wiring.leave)
    mlp = FeedForward(RATIO, case.activation)
    attention = lambda causal: Attention(HEADS, causal=causal, bias=True)
    block = {
        "encoder": {"attention": attention(False), "mlp": mlp},
        "decoder": {"attention": attention(True), "cross": CrossAttention(HEADS, bias=True), "mlp": mlp},
    }
    stacks = {
        name: Stack((Segment(tuple(Sublayer(kind, wiring, branch) for kind, branch in own.items()), DEPTH[name]),))
        for name, own in block.items()
    }
    return EncoderDecoder(stacks["encoder"], stacks["decoder"], WIDTH, Sinusoidal(VOCABULARY), smoothing=SMOOTHING)


def data(examples: int = 3) -> dict:
    """Random tokens."""
    draw = np.random.default_rng(0)
    tokens = lambda n: jnp.asarray(draw.integers(0, VOCABULARY, (examples, n)))
    return {"inputs": {"source": tokens(SOURCE), "target": tokens(TARGET)}, "targets": tokens(TARGET)}


def drawn(whole: EncoderDecoder):
    """Its parameters in float64, all moved, so that no gain is 1 and no bias 0."""
    noise = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(a + 0.1 * noise.normal(size=a.shape)), cases.float64(whole.init(0)))


@cache
def ours(case: Case) -> dict:
    """Parameters, logits, and from each side the loss and all gradients, those of the entries of its stream among them."""
    whole, batch = model(case), data()
    params = drawn(whole)

    def everything(params):
        own = {name: side.arranged(params) for name, side in whole.sides.items()}
        return {
            "logits": jax.vmap(whole, (None, 0))(params, batch["inputs"]),
            **{name: streams.read(side, own[name], batch) for name, side in whole.sides.items()},
        }

    return {"params": params, **jax.device_get(jax.jit(everything)(params))}


def weights(block: dict, norm: str) -> dict:
    """Our parameters of one block under torch's names; query, key and value are one matrix there."""
    found = {}
    for place, kind in (("self_attn", "attention"), ("multihead_attn", "cross")):
        if kind in block:
            own = named(block[kind]["branch"])
            three = lambda end, own=own: np.concatenate([own[f"{n}{end}"].T for n in ("query", "key", "value")])
            found |= {f"{place}.in_proj_weight": three(""), f"{place}.in_proj_bias": three(".bias")}
            found |= {f"{place}.out_proj.weight": own["out"].T, f"{place}.out_proj.bias": own["out.bias"]}
    for place, name in (("linear1", "up"), ("linear2", "down")):
        own = named(block["mlp"]["branch"])
        found |= {f"{place}.weight": own[name].T, f"{place}.bias": own[f"{name}.bias"]}
    for i, kind in enumerate([kind for kind in ("attention", "cross", "mlp") if kind in block], start=1):
        own = named(block[kind][norm])
        found |= {f"norm{i}.weight": own["scale"], f"norm{i}.bias": own["bias"]}
    return found


def state(tree: dict, case: Case) -> dict:
    """The whole tree under the names of `nn.Transformer`; the embedding apart."""
    found = {}
    for name, depth in DEPTH.items():
        for l in range(depth):
            block = jax.tree.map(lambda a, l=l: np.asarray(a[l]), tree[name]["stack"][0])
            found |= {f"{name}.layers.{l}.{key}": array for key, array in weights(block, case.norm).items()}
        if case.final:
            last = named(tree[name]["leave"])
            found |= {f"{name}.norm.weight": last["scale"], f"{name}.norm.bias": last["bias"]}
    return found


def positions(tokens: int) -> np.ndarray:
    """Sines and cosines of the position, entry by entry."""
    angle = lambda t, i: t / 10_000 ** (2 * (i // 2) / WIDTH)
    wave = lambda t, i: np.cos(angle(t, i)) if i % 2 else np.sin(angle(t, i))
    return np.array([[wave(t, i) for i in range(WIDTH)] for t in range(tokens)])


def network_of(case: Case):
    """Torch's own with our weights."""
    network = torch.nn.Transformer(
        WIDTH,
        HEADS,
        DEPTH["encoder"],
        DEPTH["decoder"],
        RATIO * WIDTH,
        dropout=0.0,
        activation=case.activation,
        batch_first=True,
        norm_first=case.norm == "norm_in",
        dtype=torch.float64,
    )
    if not case.final:
        network.encoder.norm = network.decoder.norm = None
    own = state(ours(case)["params"], case)
    network.load_state_dict({name: torch.tensor(np.asarray(a)) for name, a in own.items()})
    return network


def causal():
    """What a target's token doesn't see."""
    return torch.nn.Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64)


@cache
def theirs(case: Case) -> dict:
    """The same by torch: every tensor with its gradient."""
    params = ours(case)["params"]
    network = network_of(case)
    table = torch.tensor(np.asarray(params["embedding"]["token"].embedding[...]), requires_grad=True)
    stream: dict[str, list] = {}

    def keep(tensor):
        tensor.retain_grad()
        return tensor

    for name in DEPTH:
        seen = stream.setdefault(name, [])
        norms = [n for layer in getattr(network, name).layers for n in layer.children() if "Norm" in type(n).__name__]
        for norm in norms:
            if case.norm == "norm_in":
                norm.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(keep(inputs[0])))
            else:
                norm.register_forward_hook(lambda _, inputs, output, seen=seen: seen.append(keep(output)))
        if case.norm == "norm_in":
            at_top = lambda _, inputs, seen=seen: seen.append(keep(inputs[0]))
            getattr(network, name).norm.register_forward_pre_hook(at_top)
    batch = jax.tree.map(lambda a: torch.tensor(np.asarray(a)), data())
    embedded = lambda tokens: WIDTH**0.5 * table[tokens] + torch.tensor(positions(tokens.shape[1]))
    bottom = {name: keep(embedded(batch["inputs"][of])) for name, of in (("encoder", "source"), ("decoder", "target"))}
    if case.norm == "norm_out":
        for name, seen in stream.items():
            seen.append(bottom[name])  # before what the norms will return
    memory: list = []
    network.encoder.register_forward_hook(lambda _, inputs, output: memory.append(keep(output)))
    out = keep(network(bottom["encoder"], bottom["decoder"], tgt_mask=causal()))
    logits = out @ table.T
    loss = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)(logits.flatten(0, 1), batch["targets"].flatten())
    loss.backward()
    gradient = lambda tensor: tensor.grad.numpy()
    return {
        "logits": logits.detach().numpy(),
        "loss": float(loss.detach()),
        "grads": {name: gradient(tensor) for name, tensor in network.named_parameters()},
        "table": gradient(table),
        "stream": {name: [gradient(tensor) for tensor in seen] for name, seen in stream.items()},
        "out": {"encoder": gradient(memory[0]), "decoder": gradient(out)},
    }


over_sides = pytest.mark.parametrize("side", list(DEPTH))


def whole_of(grads: dict, side: str) -> dict:
    """Gradients as a side has them, arranged as the whole has its parameters."""
    other = {"encoder": "decoder", "decoder": "encoder"}[side]
    own = {name: grads[name] for name in ("enter", "stack", "leave")}
    return {"embedding": grads["embedding"], "readout": grads["readout"], side: own, other: grads[other]}


@over_cases
def test_logits_and_loss_are_torchs_seen_from_either_side(case):
    streams.assert_close(ours(case)["logits"], theirs(case)["logits"])
    for side in DEPTH:
        assert ours(case)[side]["loss"] == pytest.approx(theirs(case)["loss"], rel=1e-10)


@over_cases
def test_padded_sequences_have_torchs_logits_with_its_masks(case):
    """Of 4, 6 and 5 tokens of the source, 5, 2 and 3 of the target, padding behind them."""
    masks = {
        "source": (np.arange(SOURCE) < np.array([[4], [6], [5]])).astype(int),
        "target": (np.arange(TARGET) < np.array([[5], [2], [3]])).astype(int),
    }
    whole, params = model(case), ours(case)["params"]
    batch = checked({**data(), "attention_mask": masks}, {"m": whole.decoder})
    logits = jax.jit(jax.vmap(whole, (None, 0)))(params, batch["inputs"])
    table = np.asarray(params["embedding"]["token"].embedding[...])
    bottom = {
        side: WIDTH**0.5 * table[data()["inputs"][side]] + positions(mask.shape[1]) for side, mask in masks.items()
    }
    hidden = {side: torch.tensor(np.where(mask == 1, 0.0, -np.inf)) for side, mask in masks.items()}
    with torch.no_grad():
        out = network_of(case)(
            *map(torch.tensor, bottom.values()),
            tgt_mask=causal(),
            src_key_padding_mask=hidden["source"],
            memory_key_padding_mask=hidden["source"],
            tgt_key_padding_mask=hidden["target"],
        )
    real = masks["target"] == 1
    streams.assert_close(np.asarray(logits)[real], (out.numpy() @ table.T)[real])


@over_cases
@over_sides
def test_the_gradient_of_every_parameter_is_torchs_seen_from_either_side(case, side):
    whole = whole_of(ours(case)[side]["grads"], side)
    streams.assert_close(whole["embedding"]["token"].embedding[...], theirs(case)["table"])
    mine = state(whole, case)
    assert set(mine) == set(theirs(case)["grads"])
    largest = max(abs(g).max() for g in theirs(case)["grads"].values())
    for name, other in theirs(case)["grads"].items():
        # The gradient of a key's bias is zero but for rounding: a softmax does not see a common shift.
        streams.assert_close(mine[name], other, least=largest if "in_proj_bias" in name else 0.0)


@over_cases
@over_sides
def test_the_gradient_of_every_entry_of_either_stream_is_torchs(case, side):
    found, expected = ours(case)[side]["stream"], theirs(case)["stream"][side]
    assert len(found) == len(expected)
    for own, other in zip(found, expected, strict=True):
        streams.assert_close(own, other)


@over_sides
def test_the_meters_read_torchs_gradients_at_every_depth_and_where_a_side_is_read_out(side):
    case = CASES["post"]
    own = model(case).sides[side]
    reading = jax.jit(lambda p: gradients.economy(own, p, data()))(own.arranged(ours(case)["params"]))
    sizes = [np.sqrt((g**2).sum((0, 2))) for g in theirs(case)["stream"][side]]
    np.testing.assert_allclose(reading["stream_gradient_by_token"], sizes, rtol=1e-10)
    assert reading["readout_gradient"] == pytest.approx(np.linalg.norm(theirs(case)["out"][side]), rel=1e-10)


@over_sides
def test_the_identities_hold_on_either_side(side):
    whole = model(CASES["post"])
    own = whole.sides[side]
    streams.assert_identities(own, own.arranged(ours(CASES["post"])["params"]), data(1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothed_labels_are_torchs(smoothing):
    draw = np.random.default_rng(2)
    logits, targets = 3 * draw.normal(size=(7, VOCABULARY)), draw.integers(0, VOCABULARY, 7)
    own = smoothed_cross_entropy(jnp.asarray(logits), jnp.asarray(targets), smoothing)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    np.testing.assert_allclose(own, loss(torch.tensor(logits), torch.tensor(targets)).numpy(), rtol=1e-12)
