"""Where the parameters of each model type are in its files: tables from our names to theirs.

Our names are those of `model.names`: outside the stack `token`, `leave.scale`, …; inside it the sublayer's kind and the
parameter, `attention.query`, `mlp.norm_in.scale`. Theirs have `{}` for the number of the block, from 0.

`post_attention_layernorm` means two things: the norm in front of the feed-forward in LLaMA and its kin, and the norm behind
attention in Gemma 2 and 3 and OLMo 2. The tables say which.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...model.zoo.deepseek import DeepSeek


@dataclass(frozen=True)
class Part:
    """One of the parts that lie side by side in the features of each of `heads` heads, as `sizes` to each other.

    Rotary features that are turned in neighbouring pairs are sorted into halves where they are `interleaved`.
    """

    which: int
    sizes: tuple[int, ...]
    heads: int = 1
    interleaved: bool = False

    def whole(self, features: int) -> int:
        """How many features all parts have together, from those of this one."""
        return features * sum(self.sizes) // self.sizes[self.which]

    def __call__(self, array):
        """The part, of an array whose last axis has all."""
        by_head = array.reshape(*array.shape[:-1], self.heads, -1)
        unit = by_head.shape[-1] // sum(self.sizes)
        start = unit * sum(self.sizes[: self.which])
        own = by_head[..., start : start + unit * self.sizes[self.which]]
        if self.interleaved:
            own = np.concatenate([own[..., 0::2], own[..., 1::2]], -1)
        return own.reshape(*array.shape[:-1], -1)


@dataclass(frozen=True)
class From:
    """A tensor's name, and what makes a parameter of it: `turned` from [out, in], a `part` of its last axis.

    With `each`, a parameter is so many tensors a block, stacked: the second `{}` of the name counts them.
    """

    name: str
    turned: bool = False
    part: Part | None = None
    each: int | None = None

    def names(self, block: int) -> list[str]:
        """The tensors of one block."""
        return [self.name.format(block, one) for one in range(self.each or 1)]

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """A tensor's shape, from the parameter's."""
        own = own[1:] if self.each else own
        whole = (*own[:-1], self.part.whole(own[-1])) if self.part else own
        return whole[::-1] if self.turned else whole

    def __call__(self, tensors):
        """The parameter of one block, from its tensors."""
        turned = [tensor.T if self.turned else tensor for tensor in tensors]
        parts = [self.part(tensor) for tensor in turned] if self.part else turned
        return np.stack(parts) if self.each else parts[0]


@dataclass(frozen=True)
class Layout:
    """The table of one model type.

    `prefix` may be missing from all names of a file. `copies` are tensors that may be there as copies of a parameter to which
    the configuration ties them, `buffers` patterns of names that are no parameters, `beside` of names that belong to other heads.
    """

    table: dict[str, From]
    prefix: str
    copies: dict[str, str] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def linear(ours: str, theirs: str, bias: bool = True) -> dict[str, From]:
    """A matrix that is stored [out, in], and its bias where a model has one."""
    biases = {f"{ours}.bias": From(f"{theirs}.bias")} if bias else {}
    return {ours: From(f"{theirs}.weight", turned=True), **biases}


def norm(ours: str, theirs: str) -> dict[str, From]:
    """A norm's gain, and its shift where it has one."""
    return {f"{ours}.scale": From(f"{theirs}.weight"), f"{ours}.bias": From(f"{theirs}.bias")}


def joined(*tables: dict[str, From]) -> dict[str, From]:
    """One table of several."""
    return {ours: theirs for table in tables for ours, theirs in table.items()}


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
    {"token": From("model.embed_tokens.weight"), "readout": From("lm_head.weight", turned=True)},
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
    """A layout of LLaMA's names, with these norms in a block."""
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
    part = lambda name, *which, **how: From(f"{heads}.{name}.weight", turned=True, part=Part(*which, **how))
    attention = {
        "query": part(up, 0, queries, own.heads),
        "query_rotary": part(up, 1, queries, own.heads, interleaved=interleaved),
        "query_down": From(f"{heads}.q_a_proj.weight", turned=True),
        "query_latent.scale": From(f"{heads}.q_a_layernorm.weight"),
        "key_value_down": part("kv_a_proj_with_mqa", 0, (own.key_value_rank, own.rotary_head)),
        "key_rotary": part("kv_a_proj_with_mqa", 1, (own.key_value_rank, own.rotary_head), interleaved=interleaved),
        "key_value_latent.scale": From(f"{heads}.kv_a_layernorm.weight"),
        "key": part("kv_b_proj", 0, keys, own.heads),
        "value": part("kv_b_proj", 1, keys, own.heads),
        "out": From(f"{heads}.o_proj.weight", turned=True),
    }
    matrices = ("gate", "up", "down")
    each: dict[str, Any] = {"turned": True, "each": own.router.experts}
    experts = {
        "router": From(f"{mlp}.gate.weight", turned=True),
        "balance": From(f"{mlp}.gate.e_score_correction_bias"),
        **{f"routed.{name}": From(f"{mlp}.experts.{{}}.{name}_proj.weight", **each) for name in matrices},
        **{f"shared.{name}": From(f"{mlp}.shared_experts.{name}_proj.weight", turned=True) for name in matrices},
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
