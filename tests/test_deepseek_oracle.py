"""DeepSeek-V3 against `transformers`: latent attention, routed and shared experts, with the same weights.

One dense block and two of experts. In float32 as it is there; in float64 with its own casts to float32 (norms, softmax,
router, rotary angles) made ones to float64, so that what agrees is the function and not its rounding.

Axes: 2 examples, 7 tokens, 16 features; 8 experts in 4 groups.
"""

from dataclasses import dataclass
from functools import cache

import jax
import numpy as np
import pytest
import streams

import gradflow as gf
from gradflow.instruments.forward import experts
from gradflow.model.branches.branch import GatedFeedForward
from gradflow.model.branches.experts import Experts, SigmoidRouter
from gradflow.model.branches.latent import LatentAttention
from gradflow.model.branches.rotary import Rotary, Yarn
from gradflow.model.layers.norms import RMSNorm
from gradflow.model.stacks.embedding_readout import Embedding
from gradflow.model.stacks.stack import Segment, Stack, Sublayer
from gradflow.model.stacks.transformer import Transformer
from gradflow.model.wirings.wiring import pre

torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")
pytestmark = pytest.mark.long
pytest.importorskip("transformers", reason="the oracle is transformers: pip install -e '.[oracle]'")

WIDTH, TOKENS, VOCABULARY, LAYERS, DENSE = 16, 7, 13, 3, 1
HEADS, PLAIN, TURNED, VALUE, EXPERTS, HIDDEN = 2, 6, 4, 5, 8, 4
YARN = {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 32}
YARN |= {"beta_fast": 4.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}


@dataclass(frozen=True)
class Case:
    """One row: the precision, how exact it is there, and what differs between the two models."""

    dtype: str
    values: float
    gradients: float
    query_rank: int | None
    yarn: bool
    interleaved: bool


CASES = {
    "float32": Case("float32", 1e-5, 1e-4, 8, False, True),
    "float64": Case("float64", 1e-9, 1e-9, 8, False, True),
    "float64-yarn": Case("float64", 1e-9, 1e-9, None, True, False),
}
over_cases = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


class InDouble:
    """`torch`, whose float32 is float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


def configuration(case: Case):
    """Theirs."""
    from transformers import DeepseekV3Config

    rope = YARN if case.yarn else {"rope_type": "default", "rope_theta": 100.0}
    return DeepseekV3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        moe_intermediate_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        n_shared_experts=2,
        n_routed_experts=EXPERTS,
        routed_scaling_factor=2.5,
        kv_lora_rank=6,
        q_lora_rank=case.query_rank,
        qk_rope_head_dim=TURNED,
        v_head_dim=VALUE,
        qk_nope_head_dim=PLAIN,
        n_group=4,
        topk_group=2,
        num_experts_per_tok=3,
        first_k_dense_replace=DENSE,
        max_position_embeddings=128,
        rope_parameters=rope,
        rope_interleave=case.interleaved,
        attn_implementation="eager",
        experts_implementation="eager",
        bos_token_id=0,
        eos_token_id=1,
    )


def model(case: Case) -> Transformer:
    """Ours."""
    yarn = Yarn(4.0, 32, 4.0, 1.0, 50.0)
    attention = LatentAttention(
        HEADS,
        case.query_rank,
        6,
        PLAIN,
        TURNED,
        VALUE,
        rotary=Rotary(50.0, yarn) if case.yarn else Rotary(100.0),
        scale=(PLAIN + TURNED) ** -0.5 * (0.1 * np.log(4.0) + 1) ** 2 if case.yarn else None,
    )
    routed = Experts(SigmoidRouter(EXPERTS, 3, 4, 2, 2.5), shared=2, ratio=HIDDEN / WIDTH)
    wiring = pre(RMSNorm(1e-6))
    block = lambda kind, mlp: (Sublayer("attention", wiring, attention), Sublayer(kind, wiring, mlp))
    stack = Stack(
        (
            Segment(block("mlp", GatedFeedForward(1.5)), DENSE),
            Segment(block("experts", routed), LAYERS - DENSE),
        )
    )
    return Transformer(stack, WIDTH, Embedding(VOCABULARY, None))


def sublayers(of: dict, l: int, case: Case) -> dict[str, dict]:
    """`{kind: {our name: array}}` of a block, from tensors by their name; of weights and of their gradients alike."""
    at = lambda name: of[f"model.layers.{l}.{name}.weight"].T
    halves = lambda w: np.concatenate([w[..., 0::2], w[..., 1::2]], -1) if case.interleaved else w

    def by_head(w, *sizes):
        parts = np.split(w.reshape(len(w), HEADS, -1), np.cumsum(sizes)[:-1], -1)
        return dict(zip(("plain", "other"), parts, strict=True))

    flat = lambda w: w.reshape(len(w), -1)
    q = by_head(at("self_attn.q_b_proj" if case.query_rank else "self_attn.q_proj"), PLAIN, TURNED)
    kv = by_head(at("self_attn.kv_b_proj"), PLAIN, VALUE)
    down = at("self_attn.kv_a_proj_with_mqa")
    attention = {
        "query": flat(q["plain"]),
        "query_rotary": flat(halves(q["other"])),
        "key_value_down": down[:, :-TURNED],
        "key_rotary": halves(down[:, -TURNED:]),
        "key": flat(kv["plain"]),
        "value": flat(kv["other"]),
        "key_value_latent.scale": at("self_attn.kv_a_layernorm"),
        "out": at("self_attn.o_proj"),
        "norm_in.scale": at("input_layernorm"),
    }
    if case.query_rank:
        attention |= {"query_down": at("self_attn.q_a_proj"), "query_latent.scale": at("self_attn.q_a_layernorm")}
    mlp = {"norm_in.scale": at("post_attention_layernorm")}
    gated = lambda where: {name: at(f"{where}.{name}_proj") for name in ("gate", "up", "down")}
    if l < DENSE:
        return {"attention": attention, "mlp": mlp | gated("mlp")}
    experts = f"model.layers.{l}.mlp.experts."
    gate, up = np.split(np.swapaxes(of[experts + "gate_up_proj"], 1, 2), 2, -1)
    routed = {"gate": gate, "up": up, "down": np.swapaxes(of[experts + "down_proj"], 1, 2)}
    mlp |= {"router": at("mlp.gate"), "balance": of[f"model.layers.{l}.mlp.gate.e_score_correction_bias"]}
    mlp |= {f"routed.{name}": w for name, w in routed.items()}
    mlp |= {f"shared.{name}": w for name, w in gated("mlp.shared_experts").items()}
    return {"attention": attention, "experts": mlp}


def arranged(of: dict, case: Case, like) -> dict:
    """Our tree from tensors by their name."""
    blocks, stack = [sublayers(of, l, case) for l in range(LAYERS)], []
    for own, segment in zip((blocks[:DENSE], blocks[DENSE:]), like["stack"], strict=True):
        rows = {kind: [block[kind] for block in own] for kind in segment}
        joined = {kind: {n: np.stack([row[n] for row in each]) for n in each[0]} for kind, each in rows.items()}
        stack.append({kind: streams.filled(segment[kind], table) for kind, table in joined.items()})
    outer = {"token": of["model.embed_tokens.weight"], "leave.scale": of["model.norm.weight"]}
    outer["readout"] = of["lm_head.weight"].T
    return {**streams.filled({k: v for k, v in like.items() if k != "stack"}, outer), "stack": tuple(stack)}


def data():
    """Tokens, and those that follow."""
    pairs = np.random.default_rng(1).integers(0, VOCABULARY, (2, 2, TOKENS))
    return {"inputs": pairs[0], "targets": pairs[1]}


@cache
def theirs(case: Case) -> dict:
    """Logits, loss, and every tensor with its gradient, by transformers."""
    from transformers import DeepseekV3ForCausalLM
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as source

    torch.manual_seed(0)
    network = DeepseekV3ForCausalLM(configuration(case)).to(getattr(torch, case.dtype))
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if "inv_freq" not in name:
                tensor.add_((0.1 if "norm" in name or "bias" in name else 0.4) * torch.randn_like(tensor))
    seen = []
    layers = [n for layer in network.model.layers for n in (layer.input_layernorm, layer.post_attention_layernorm)]
    for norm in (*layers, network.model.norm):
        norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].retain_grad(), seen.append(inputs[0]))[0])
    chosen = []
    for layer in network.model.layers[DENSE:]:
        layer.mlp.gate.register_forward_hook(lambda _, inputs, output: chosen.append(output[2].numpy()))
    was, tokens = source.torch, {name: torch.tensor(a) for name, a in data().items()}
    source.torch = InDouble() if case.dtype == "float64" else torch
    try:
        if case.dtype == "float64" and not case.yarn:
            network.model.rotary_emb.inv_freq = source.DeepseekV3RotaryEmbedding(network.config).inv_freq
        elif case.yarn:
            network.model.rotary_emb.inv_freq = exact_yarn(network.model.rotary_emb.inv_freq)
        logits = network(tokens["inputs"], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens["targets"].flatten())
        loss.backward()
    finally:
        source.torch = was
    tensors = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    grads = {name: tensor.grad.numpy() for name, tensor in network.named_parameters()}
    bias = {name: tensor.numpy() for name, tensor in network.named_buffers() if name.endswith("bias")}
    still = {name: np.zeros_like(array) for name, array in bias.items()}
    stream = [tensor.grad.numpy() for tensor in seen]
    return {
        "tensors": tensors | bias,
        "grads": grads | still,
        "logits": logits.detach().numpy(),
        "loss": float(loss.detach()),
        "stream": stream,
        "chosen": chosen,
        "network": network,
    }


def exact_yarn(rounded):
    """Our frequencies, in float64, once they are theirs to rounding: theirs are float32."""
    half = TURNED // 2
    exact = np.asarray(Yarn(4.0, 32, 4.0, 1.0, 50.0)(50.0 ** (-np.arange(half) / half), 7))
    np.testing.assert_allclose(exact, rounded.numpy(), rtol=1e-6)
    assert (exact < 50.0 ** (-np.arange(half) / half)).any()
    return torch.tensor(exact)


@cache
def ours(case: Case) -> dict:
    """The same by gradflow."""
    own = model(case)
    like = jax.tree.map(lambda a: np.asarray(a, case.dtype), own.init(0))
    params, batch = arranged(theirs(case)["tensors"], case, like), data()

    def everything(params):
        return {
            "logits": jax.vmap(own, (None, 0))(params, batch["inputs"]),
            "load": experts.load(own, params, batch),
            **streams.read(own, params, batch),
        }

    return {"like": like, "params": params, **jax.device_get(jax.jit(everything)(params))}


@over_cases
def test_logits_and_loss_are_those_of_transformers(case):
    assert ours(case)["logits"].dtype == case.dtype
    streams.assert_close(ours(case)["logits"], theirs(case)["logits"], case.values)
    assert ours(case)["loss"] == pytest.approx(theirs(case)["loss"], rel=case.values)


@over_cases
def test_the_gradient_of_every_parameter_is_that_of_transformers(case):
    expected = arranged(theirs(case)["grads"], case, ours(case)["like"])
    found = jax.tree_util.tree_leaves_with_path(ours(case)["grads"])
    for (path, own), other in zip(found, jax.tree.leaves(expected), strict=True):
        streams.assert_close(own, other, case.gradients)
        assert np.any(other) or "balance" in jax.tree_util.keystr(path)


@over_cases
def test_the_gradient_of_every_entry_of_the_stream_is_that_of_transformers(case):
    assert len(theirs(case)["stream"]) == 2 * LAYERS + 1
    for own, other in zip(ours(case)["stream"], theirs(case)["stream"], strict=True):
        streams.assert_close(own, other, case.gradients)


@over_cases
def test_the_load_of_the_experts_is_how_often_transformers_chooses_them(case):
    load, experts = ours(case)["load"]["expert_load"], [2 * l + 1 for l in range(DENSE, LAYERS)]
    assert np.isnan(np.delete(load, experts, axis=0)).all()
    for own, chosen in zip(load[experts], theirs(case)["chosen"], strict=True):
        np.testing.assert_allclose(own, np.bincount(chosen.ravel(), minlength=EXPERTS) / chosen.size, rtol=1e-6)
    violation = ours(case)["load"]["load_violation"][experts]
    np.testing.assert_allclose(violation, load[experts].max(1) * EXPERTS - 1, rtol=1e-6)


def test_the_identities_hold_for_latent_attention_and_experts():
    case = CASES["float64"]
    batch = jax.tree.map(lambda a: a[:1], data())
    streams.assert_identities(model(case), ours(case)["params"], batch)


@over_cases
def test_what_transformers_saves_is_read_as_the_same_model_with_the_same_parameters(case, tmp_path):
    pytest.importorskip("safetensors", reason="checkpoints need safetensors: pip install -e '.[hf]'")
    theirs(case)["network"].save_pretrained(tmp_path)
    read, params = gf.checkpoint(tmp_path, precision="float64" if case.dtype == "float64" else None)
    for (path, own), other in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(ours(case)["params"]), strict=True
    ):
        np.testing.assert_array_equal(own, other, err_msg=jax.tree_util.keystr(path))
    logits = jax.jit(jax.vmap(read, (None, 0)))(params, data()["inputs"])
    streams.assert_close(logits, theirs(case)["logits"], case.values)


def test_what_is_not_read_of_deepseek_is_refused_by_name(tmp_path):
    import json

    case = CASES["float32"]
    theirs(case)["network"].save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"norm_topk_prob": False}, "norm_topk_prob is False; only True is supported"),
        ({"first_k_dense_replace": 3}, "first_k_dense_replace is 3; a whole number from 0 to 2"),
        ({"n_group": 3}, "groups must divide the experts"),
        ({"n_routed_experts": 2**20}, "1048576 experts, but the files have"),
        ({"rope_parameters": YARN | {"mscale": 0.7}}, "mscale is 0.7; only 1 is supported"),
        ({"kv_lora_rank": 7}, r"misshaped: model.layers.0.self_attn.kv_b_proj.weight \[22, 6\], expected \[22, 7\]"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            gf.checkpoint(tmp_path)
