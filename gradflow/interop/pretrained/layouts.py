"""Where the parameters of LLaMA and its kin are in their files: tables from our names to theirs.

`post_attention_layernorm` means two things: the norm in front of the feed-forward in LLaMA and its kin, and the norm behind
attention in Gemma 2 and 3 and OLMo 2. The tables say which.
"""

from typing import Any

from ...model.zoo.deepseek import DeepSeek
from .gpt_layouts import READOUT, final
from .sources import QKV, From, Layout, Part, fused, joined, linear, norm

BLOCK = "model.layers.{}"
BUFFERS = (r".*rotary_emb\.inv_freq",)
OUTER = joined(
    {"token": From("model.embed_tokens.weight")},
    READOUT,
    final("model.norm"),
)
SHORT = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
HEADS = joined(*(linear(f"attention.{ours}", f"{BLOCK}.self_attn.{theirs}") for ours, theirs in SHORT.items()))
GATED = joined(*(linear(f"mlp.{name}", f"{BLOCK}.mlp.{name}_proj") for name in ("gate", "up", "down")))
PLAIN = joined(linear("mlp.up", f"{BLOCK}.mlp.c_fc"), linear("mlp.down", f"{BLOCK}.mlp.c_proj"))
FUSED = joined(
    fused("mlp", ("gate", "up"), f"{BLOCK}.mlp.gate_up_proj"),
    linear("mlp.down", f"{BLOCK}.mlp.down_proj", bias=False),
)
QK_NORMS = joined(
    norm("attention.query_norm", f"{BLOCK}.self_attn.q_norm"), norm("attention.key_norm", f"{BLOCK}.self_attn.k_norm")
)


def decoder(*norms: dict[str, From], heads: dict[str, From] = HEADS, mlp: dict[str, From] = GATED) -> Layout:
    """Returns a layout of LLaMA's names, with these norms in a block, and matrices."""
    table = joined(OUTER, heads, mlp, *norms)
    return Layout(table, prefix="model.", copies={"lm_head.weight": "token"}, buffers=BUFFERS)


NORMS_IN = joined(
    norm("attention.norm_in", f"{BLOCK}.input_layernorm"), norm("mlp.norm_in", f"{BLOCK}.post_attention_layernorm")
)
NORMS_BRANCH = joined(
    norm("attention.norm_branch", f"{BLOCK}.post_attention_layernorm"),
    norm("mlp.norm_branch", f"{BLOCK}.post_feedforward_layernorm"),
)
NORMS_BOTH = joined(
    norm("attention.norm_in", f"{BLOCK}.input_layernorm"),
    norm("mlp.norm_in", f"{BLOCK}.pre_feedforward_layernorm"),
    NORMS_BRANCH,
)
LLAMA, QWEN3 = decoder(NORMS_IN), decoder(NORMS_IN, QK_NORMS)
OLMO2 = decoder(NORMS_BRANCH, QK_NORMS)
GEMMA2, GEMMA3 = decoder(NORMS_BOTH), decoder(NORMS_BOTH, QK_NORMS)


STARCODER2 = decoder(NORMS_IN, mlp=PLAIN)


def paired(heads: int, kv_heads: int, turned: int) -> dict[str, From]:
    """Returns queries and keys whose first `turned` features a head are turned in neighbouring pairs, values and output."""
    table = dict(HEADS)
    for ours, number in (("query", heads), ("key", kv_heads)):
        part, theirs = Part(0, (1,), number, turned), f"{BLOCK}.self_attn.{SHORT[ours]}"
        table[f"attention.{ours}"] = From(f"{theirs}.weight", True, part)
        table[f"attention.{ours}.bias"] = From(f"{theirs}.bias", part=part)
    return table


def cohere2(heads: int, kv_heads: int, head: int) -> Layout:
    """One norm a block, for both branches."""
    one = f"{BLOCK}.input_layernorm"
    return decoder(norm("attention.norm_in", one), norm("mlp.norm_in", one), heads=paired(heads, kv_heads, head))


def glm4(heads: int, kv_heads: int, turned: int) -> Layout:
    """Four norms a block, of which `post_attention_layernorm` is in front of the feed-forward."""
    behind = joined(
        norm("attention.norm_branch", f"{BLOCK}.post_self_attn_layernorm"),
        norm("mlp.norm_branch", f"{BLOCK}.post_mlp_layernorm"),
    )
    return decoder(NORMS_IN, behind, heads=paired(heads, kv_heads, turned), mlp=FUSED)


def phi3(heads: int, kv_heads: int) -> Layout:
    """Queries, keys and values in one matrix, gate and up in another."""
    heads_in_one = joined(
        fused("attention", QKV, f"{BLOCK}.self_attn.qkv_proj", (heads, kv_heads, kv_heads)),
        linear("attention.out", f"{BLOCK}.self_attn.o_proj", bias=False),
    )
    return decoder(NORMS_IN, heads=heads_in_one, mlp=FUSED)


# ---- experts ------------------------------------------------------------------------------------------------


EXPERTS_NORM = norm("experts.norm_in", f"{BLOCK}.post_attention_layernorm")


def experts(number: int, place: str, matrices: dict[str, str]) -> dict[str, From]:
    """Returns the router and the matrices of so many experts, which are stored one by one."""
    each: dict[str, Any] = {"transposed": True, "each": number}
    table = {"experts.router": From(f"{BLOCK}.{place}.gate.weight", transposed=True)}
    for ours, theirs in matrices.items():
        table[f"experts.routed.{ours}"] = From(f"{BLOCK}.{place}.experts.{{}}.{theirs}.weight", **each)
    return joined(table, EXPERTS_NORM)


OF_EXPERTS = {name: f"{name}_proj" for name in ("gate", "up", "down")}


def mixtral(number: int) -> Layout:
    """Experts whose matrices have numbers."""
    table = experts(number, "block_sparse_moe", {"gate": "w1", "down": "w2", "up": "w3"})
    return decoder(NORMS_IN, mlp=table)


def qwen3_moe(number: int) -> Layout:
    """Experts, and norms of queries and keys."""
    return decoder(NORMS_IN, QK_NORMS, mlp=experts(number, "mlp", OF_EXPERTS))


def gpt_oss(hidden: int) -> Layout:
    """Experts in one tensor a matrix, those of gate and up feature by feature side by side; sinks."""
    place = f"{BLOCK}.mlp.experts"
    table = linear("experts.router", f"{BLOCK}.mlp.router")
    for which, name in enumerate(("gate", "up")):
        own = Part(which, (1, 1), hidden)
        table[f"experts.routed.{name}"] = From(f"{place}.gate_up_proj", part=own)
        table[f"experts.routed.{name}.bias"] = From(f"{place}.gate_up_proj_bias", part=own)
    table["experts.routed.down"] = From(f"{place}.down_proj")
    table["experts.routed.down.bias"] = From(f"{place}.down_proj_bias")
    sinks = {"attention.sink": From(f"{BLOCK}.self_attn.sinks")}
    return decoder(NORMS_IN, EXPERTS_NORM, sinks, mlp=table)


def deepseek(own: DeepSeek, interleaved: bool) -> Layout:
    """Latent attention, whose matrices hold two of ours each, and experts, which are stored one by one.

    What predicts a second token is stored as one more block; it is beside the model.
    """
    heads, mlp = f"{BLOCK}.self_attn", f"{BLOCK}.mlp"
    queries, keys = (own.head, own.rotary_head), (own.head, own.value_head)
    up = "q_b_proj" if own.query_rank else "q_proj"
    part = lambda name, *which, **how: From(f"{heads}.{name}.weight", transposed=True, part=Part(*which, **how))
    attention = {
        "query": part(up, 0, queries, own.heads),
        "query_rotary": part(up, 1, queries, own.heads, interleaved=own.rotary_head if interleaved else 0),
        "query_down": From(f"{heads}.q_a_proj.weight", transposed=True),
        "query_latent.scale": From(f"{heads}.q_a_layernorm.weight"),
        "key_value_down": part("kv_a_proj_with_mqa", 0, (own.key_value_rank, own.rotary_head)),
        "key_rotary": part(
            "kv_a_proj_with_mqa",
            1,
            (own.key_value_rank, own.rotary_head),
            interleaved=own.rotary_head if interleaved else 0,
        ),
        "key_value_latent.scale": From(f"{heads}.kv_a_layernorm.weight"),
        "key": part("kv_b_proj", 0, keys, own.heads),
        "value": part("kv_b_proj", 1, keys, own.heads),
        "out": From(f"{heads}.o_proj.weight", transposed=True),
    }
    shared = {
        f"experts.shared.{ours}": From(f"{mlp}.shared_experts.{theirs}.weight", transposed=True)
        for ours, theirs in OF_EXPERTS.items()
    }
    table = joined(
        OUTER,
        {f"attention.{ours}": theirs for ours, theirs in attention.items()},
        experts(own.router.experts, "mlp", OF_EXPERTS),
        {"experts.balance": From(f"{mlp}.gate.e_score_correction_bias")},
        shared,
        GATED,
        NORMS_IN,
    )
    return Layout(table, prefix="model.", buffers=BUFFERS, beside=(rf"(model\.)?layers\.{own.depth}\..*",))
