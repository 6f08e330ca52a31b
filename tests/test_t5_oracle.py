"""T5 against transformers, in float64: logits, loss, the gradients of all parameters and of every entry of both streams.

Two encoder blocks and three decoder blocks, read from files as transformers saves them; texts of which the longest distances
share a bias.

Axes: 2 examples, 11 tokens of the source, 9 of the target; 24 features in 3 heads of 10.
"""

from functools import cache
from pathlib import Path

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import streams
from test_checkpoints_oracle import fixed_precision_is, torch, transformers

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.interop import trained
from gradflow.interop.pretrained.configs import Config
from gradflow.interop.pretrained.families import FAMILIES
from gradflow.interop.pretrained.files import json_of
from gradflow.interop.pretrained.matching import leaves
from gradflow.model.inputs.batch import checked

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

SOURCE, TARGET, VOCABULARY = 11, 9, 61
DEPTH = {"encoder": 2, "decoder": 3}
VALUES = {"vocab_size": VOCABULARY, "d_model": 24, "d_kv": 10, "d_ff": 40, "num_heads": 3, "num_layers": 2}
VALUES |= {"num_decoder_layers": 3, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}
# T5; T5 1.1 as transformers ties it, without a scale; the same with a readout of its own, as its files have it.
KINDS = {"t5": {}, "t5-gated": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}
KINDS["t5-1.1"] = KINDS["t5-gated"]
over_kinds = pytest.mark.parametrize("kind", KINDS)
over_sides = pytest.mark.parametrize("side", DEPTH)
DRAW = np.random.default_rng(0)
BATCH = {
    "inputs": {"source": DRAW.integers(3, VOCABULARY, (2, SOURCE))},
    "targets": DRAW.integers(3, VOCABULARY, (2, TARGET)),
}
BATCH["inputs"]["target"] = DRAW.integers(3, VOCABULARY, (2, TARGET))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the models are saved."""
    return tmp_path_factory.mktemp("t5")


def made(kind: str):
    """A model with random weights, no gain 1."""
    with fixed_precision_is("float64"):
        config = transformers.T5Config(**VALUES, **KINDS[kind], attn_implementation="eager")
        model = transformers.T5ForConditionalGeneration(config).to(torch.float64)
        if kind == "t5-1.1":
            model.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCABULARY, 24))
    noise = np.random.default_rng(1)
    with torch.no_grad():
        for own in model.parameters():
            around = 1.0 if own.ndim == 1 else 0.0
            own.copy_(torch.tensor(around + 0.2 * noise.normal(size=own.shape)))
    return model.eval()


def saved(kind: str, folder: Path) -> Path:
    """Where the model lies; with a head of its own, which transformers would tie, as the files of T5 1.1 have it."""
    own = folder / kind
    if own.is_dir():
        return own
    model = made(kind)
    model.save_pretrained(own)
    if kind == "t5-1.1":
        from safetensors.torch import load_file, save_file

        tensors = load_file(own / "model.safetensors") | {"lm_head.weight": model.lm_head.weight.detach()}
        save_file(tensors, own / "model.safetensors", metadata={"format": "pt"})
        config = (own / "config.json").read_text(encoding="utf-8")
        (own / "config.json").write_text(config.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))
    return own


@cache
def theirs(kind: str) -> dict:
    """Logits, loss, gradients of parameters by their names, and of both streams between blocks."""
    model = made(kind)
    stream: dict[str, list] = {side: [] for side in DEPTH}

    def keep(seen, tensor):
        tensor.retain_grad()
        seen.append(tensor)

    for side, seen in stream.items():
        stack = getattr(model, side)
        stack.block[0].register_forward_pre_hook(lambda _, inputs, seen=seen: keep(seen, inputs[0]))
        for block in stack.block:
            at_end = lambda _, inputs, output, seen=seen: keep(seen, output if torch.is_tensor(output) else output[0])
            block.register_forward_hook(at_end)
    given = jax.tree.map(torch.tensor, BATCH)
    with fixed_precision_is("float64"):
        ends = {"input_ids": given["inputs"]["source"], "decoder_input_ids": given["inputs"]["target"]}
        logits = model(**ends, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), given["targets"].flatten())
        loss.backward()
    return {
        "logits": logits.detach().numpy(),
        "loss": float(loss.detach()),
        "stream": {side: [x.grad.numpy() for x in seen] for side, seen in stream.items()},
        "grads": {name: p.grad.numpy() for name, p in model.named_parameters()},
    }


@cache
def ours(kind: str, folder: Path) -> dict:
    """The same of what is read from the files, gradients seen from either side."""
    own = saved(kind, folder)
    model, params = gf.checkpoint(own, precision="float64")
    batch = jax.tree.map(jnp.asarray, BATCH)

    @cases.jit
    def everything(params):
        logits = jax.vmap(model, (None, 0))(params, batch["inputs"])
        return logits, {n: streams.read(side, side.arranged(params), batch) for n, side in model.sides.items()}

    logits, by_side = jax.device_get(everything(params))
    layout = FAMILIES["t5"](Config(json_of(own / "config.json")))[1]
    return {"model": model, "params": params, "batch": batch, "logits": logits, "layout": layout, **by_side}


@over_kinds
def test_logits_and_loss_are_those_of_transformers(kind, folders):
    streams.assert_close(ours(kind, folders)["logits"], theirs(kind)["logits"])
    for side in DEPTH:
        assert ours(kind, folders)[side]["loss"] == pytest.approx(theirs(kind)["loss"], rel=1e-10)


@over_sides
@over_kinds
def test_the_gradient_of_every_entry_of_either_stream_is_that_of_transformers(kind, side, folders):
    found = ours(kind, folders)[side]["stream"]
    kinds = len(found) // DEPTH[side]
    expected = theirs(kind)["stream"][side]
    assert len(found[::kinds]) == len(expected) == DEPTH[side] + 1
    for own, other in zip(found[::kinds], expected, strict=True):
        streams.assert_close(own, other)


@over_sides
@over_kinds
def test_the_gradient_of_every_parameter_is_that_of_transformers(kind, side, folders):
    own = ours(kind, folders)
    assert_gradients(own[side]["grads"], side, own["layout"], theirs(kind)["grads"])


def assert_gradients(grads, side: str, layout, other: dict):
    """Those seen from a side are theirs, by the tensors that parameters are of."""
    elsewhere = {"encoder": "decoder", "decoder": "encoder"}[side]
    whole = {name: grads[name] for name in ("embedding", "readout", elsewhere)}
    whole[side] = {name: grads[name] for name in ("enter", "stack", "leave")}
    seen = set()
    for leaf, grad in zip(leaves(jax.eval_shape(lambda: whole)), jax.tree.leaves(whole), strict=True):
        source = layout.table[leaf.name]
        names = [source.names(block) for block in leaf.blocks or (0,)]
        expected = np.stack([source([other[name] for name in of_block]) for of_block in names])
        streams.assert_close(grad if leaf.blocks is not None else grad[None], expected)
        seen |= {name for of_block in names for name in of_block}
    assert seen == set(other)


@pytest.mark.parametrize("where", ["left", "right"])
def test_padded_sequences_have_the_logits_loss_and_gradients_of_transformers_with_its_masks(where, folders):
    """Of 7 and 11 tokens of the source, 9 and 4 of the target."""
    own = ours("t5", folders)
    masks = {}
    for name, room, lengths in (("source", SOURCE, (7, 11)), ("target", TARGET, (9, 4))):
        place = np.arange(room)
        masks[name] = np.stack([place >= room - n if where == "left" else place < n for n in lengths]).astype(int)
    side = own["model"].decoder
    batch = checked({**BATCH, "attention_mask": masks}, {"m": side})

    @cases.jit
    def everything(params, batch):
        logits = jax.vmap(own["model"], (None, 0))(params, batch["inputs"])
        return logits, gradients.backward(side, side.arranged(params), batch)

    logits, (grads, reading) = jax.device_get(everything(own["params"], batch))
    model = made("t5")
    given, real = jax.tree.map(torch.tensor, (BATCH, masks)), masks["target"] == 1
    with fixed_precision_is("float64"):
        ends = {"input_ids": given[0]["inputs"]["source"], "decoder_input_ids": given[0]["inputs"]["target"]}
        ends |= {"attention_mask": given[1]["source"], "decoder_attention_mask": given[1]["target"]}
        found = model(**ends, use_cache=False).logits
        asked = given[1]["target"] == 1
        loss = torch.nn.functional.cross_entropy(found[asked], given[0]["targets"][asked])
        loss.backward()
    streams.assert_close(logits[real], found.detach().numpy()[real])
    assert float(reading["loss"]) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert_gradients(grads, "decoder", own["layout"], {name: p.grad.numpy() for name, p in model.named_parameters()})


def test_the_meters_read_both_streams(folders):
    own = ours("t5", folders)
    for side, model in own["model"].sides.items():
        reading = cases.jit(lambda p, model=model: gradients.economy(model, p, own["batch"]))(
            model.arranged(own["params"])
        )
        kinds = model.stack.size // DEPTH[side]
        sizes = [np.linalg.norm(g) for g in theirs("t5")["stream"][side]]
        np.testing.assert_allclose(reading["stream_gradient"][::kinds], sizes, rtol=1e-10)


def test_the_report_of_one_text_refuses_it_in_a_line(folders):
    with pytest.raises(ValueError, match="t5 reads a source and a target, not one text: in Python, gf.checkpoint"):
        trained.found(saved("t5", folders))
