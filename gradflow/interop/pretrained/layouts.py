"""Where the parameters of each model type are in its files: tables from our names to theirs.

`post_attention_layernorm` means two things: the norm in front of the feed-forward in LLaMA and its kin, and the norm behind
attention in Gemma 2 and 3 and OLMo 2. The tables say which.
"""

from typing import Any

from ...model.zoo.deepseek import DeepSeek
from .sources import From, Layout, Part, joined, linear, norm

# ---- BERT ---------------------------------------------------------------------------------------------------

_LAYER = "bert.encoder.layer.{}"
BERT = Layout(
    joined(
        {"token": From("bert.embeddings.word_embeddings.weight")},
        {"position": From("bert.embeddings.position_embeddings.weight")},
        {"type": From("bert.embeddings.token_type_embeddings.weight")},
        norm("enter", "bert.embeddings.LayerNorm"),
        *(linear(f"attention.{name}", f"{_LAYER}.attention.self.{name}") for name in ("query", "key", "value")),
        linear("attention.out", f"{_LAYER}.attention.output.dense"),
        norm("attention.norm_out", f"{_LAYER}.attention.output.LayerNorm"),
        linear("mlp.up", f"{_LAYER}.intermediate.dense"),
        linear("mlp.down", f"{_LAYER}.output.dense"),
        norm("mlp.norm_out", f"{_LAYER}.output.LayerNorm"),
        linear("readout.before.1.dense", "cls.predictions.transform.dense"),
        norm("readout.before.2", "cls.predictions.transform.LayerNorm"),
        {"readout.bias": From("cls.predictions.bias")},
    ),
    prefix="bert.",
    copies={"cls.predictions.decoder.weight": "token", "cls.predictions.decoder.bias": "readout.bias"},
    buffers=(r"(bert\.)?embeddings\.(position|token_type)_ids",),
    beside=(r"(bert\.)?pooler\..*", r"cls\.seq_relationship\..*"),
)


# ---- GPT-1 and GPT-2, whose names are alike and whose norms are not in the same places ----------------------


def _gpt(place: str, outer: dict[str, From]) -> Layout:
    """Their matrices are stored [in, out], queries, keys and values in one."""
    block, heads = "transformer.h.{}", ("query", "key", "value")
    matrix = lambda ours, theirs: {ours: From(f"{theirs}.weight"), f"{ours}.bias": From(f"{theirs}.bias")}
    fused = lambda i, kind: From(f"{block}.attn.c_attn.{kind}", part=Part(i, (1, 1, 1)))
    return Layout(
        joined(
            outer,
            {f"attention.{name}": fused(i, "weight") for i, name in enumerate(heads)},
            {f"attention.{name}.bias": fused(i, "bias") for i, name in enumerate(heads)},
            matrix("attention.out", f"{block}.attn.c_proj"),
            norm(f"attention.{place}", f"{block}.ln_1"),
            matrix("mlp.up", f"{block}.mlp.c_fc"),
            matrix("mlp.down", f"{block}.mlp.c_proj"),
            norm(f"mlp.{place}", f"{block}.ln_2"),
        ),
        prefix="transformer.",
        copies={"lm_head.weight": "token"},
        buffers=(r".*\.attn\.(masked_)?bias",),
    )


GPT1 = _gpt(
    "norm_out",
    {"token": From("transformer.tokens_embed.weight"), "position": From("transformer.positions_embed.weight")},
)
GPT2 = _gpt(
    "norm_in",
    joined(
        {"token": From("transformer.wte.weight"), "position": From("transformer.wpe.weight")},
        norm("leave", "transformer.ln_f"),
    ),
)


# ---- OPT, whose two placements have the same names ----------------------------------------------------------


def _opt(place: str) -> Layout:
    decoder, block = "model.decoder", "model.decoder.layers.{}"
    short = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return Layout(
        joined(
            {"token": From(f"{decoder}.embed_tokens.weight"), "position": From(f"{decoder}.embed_positions.weight")},
            linear("project", f"{decoder}.project_in", bias=False),
            *(linear(f"attention.{ours}", f"{block}.self_attn.{theirs}") for ours, theirs in short.items()),
            norm(f"attention.{place}", f"{block}.self_attn_layer_norm"),
            linear("mlp.up", f"{block}.fc1"),
            linear("mlp.down", f"{block}.fc2"),
            norm(f"mlp.{place}", f"{block}.final_layer_norm"),
            norm("leave", f"{decoder}.final_layer_norm"),
            linear("readout.before.dense", f"{decoder}.project_out", bias=False),
        ),
        prefix="model.",
        copies={"lm_head.weight": "token"},
    )


OPT_PRE, OPT_POST = _opt("norm_in"), _opt("norm_out")


# ---- LLaMA and its kin --------------------------------------------------------------------------------------

BLOCK = "model.layers.{}"
BUFFERS = (r".*rotary_emb\.inv_freq",)
OUTER = joined(
    {"token": From("model.embed_tokens.weight"), "readout": From("lm_head.weight", transposed=True)},
    norm("leave", "model.norm"),
)
HEADS = joined(
    *(
        linear(f"attention.{ours}", f"{BLOCK}.self_attn.{theirs}")
        for ours, theirs in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}.items()
    )
)
GATED = joined(*(linear(f"mlp.{name}", f"{BLOCK}.mlp.{name}_proj") for name in ("gate", "up", "down")))
QK_NORMS = joined(
    norm("attention.query_norm", f"{BLOCK}.self_attn.q_norm"), norm("attention.key_norm", f"{BLOCK}.self_attn.k_norm")
)


def decoder(*norms: dict[str, From]) -> Layout:
    """Returns a layout of LLaMA's names, with these norms in a block."""
    table = joined(OUTER, HEADS, GATED, *norms)
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


# ---- DeepSeek-V3, whose layout depends on the sizes of its heads --------------------------------------------


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
        "query_rotary": part(up, 1, queries, own.heads, interleaved=interleaved),
        "query_down": From(f"{heads}.q_a_proj.weight", transposed=True),
        "query_latent.scale": From(f"{heads}.q_a_layernorm.weight"),
        "key_value_down": part("kv_a_proj_with_mqa", 0, (own.key_value_rank, own.rotary_head)),
        "key_rotary": part("kv_a_proj_with_mqa", 1, (own.key_value_rank, own.rotary_head), interleaved=interleaved),
        "key_value_latent.scale": From(f"{heads}.kv_a_layernorm.weight"),
        "key": part("kv_b_proj", 0, keys, own.heads),
        "value": part("kv_b_proj", 1, keys, own.heads),
        "out": From(f"{heads}.o_proj.weight", transposed=True),
    }
    matrices = ("gate", "up", "down")
    each: dict[str, Any] = {"transposed": True, "each": own.router.experts}
    experts = {
        "router": From(f"{mlp}.gate.weight", transposed=True),
        "balance": From(f"{mlp}.gate.e_score_correction_bias"),
        **{f"routed.{name}": From(f"{mlp}.experts.{{}}.{name}_proj.weight", **each) for name in matrices},
        **{f"shared.{name}": From(f"{mlp}.shared_experts.{name}_proj.weight", transposed=True) for name in matrices},
    }
    table = joined(
        OUTER,
        {f"attention.{ours}": theirs for ours, theirs in attention.items()},
        {f"experts.{ours}": theirs for ours, theirs in experts.items()},
        GATED,
        NORMS_IN,
        norm("experts.norm_in", f"{BLOCK}.post_attention_layernorm"),
    )
    return Layout(table, prefix="model.", buffers=BUFFERS, beside=(rf"(model\.)?layers\.{own.depth}\..*",))
