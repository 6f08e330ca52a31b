"""Where the parameters of each model type are in its files: tables from our names to theirs.

Our names are those of `model.names`: outside the stack `token`, `leave.scale`, …; inside it the sublayer's kind and the
parameter, `attention.query`, `mlp.norm_in.scale`. Theirs have `{}` for the number of the block, from 0.

`post_attention_layernorm` means two things: the norm in front of the feed-forward in LLaMA and its kin, and the norm behind
attention in Gemma 2 and 3 and OLMo 2. The tables say which.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class From:
    """A tensor's name, and what makes a parameter of it: `turned` from [out, in], or one part of several on the last axis."""

    name: str
    turned: bool = False
    part: int = 0
    parts: int = 1

    def names(self, block: int) -> list[str]:
        """The tensors of one block's parameter."""
        return [self.name.format(block)]

    def rooms(self, own) -> list:
        """Where each of these tensors goes in the parameter of one block: views of it."""
        return [own]

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one tensor, from the parameter's."""
        whole = (*own[:-1], own[-1] * self.parts) if own else own
        return whole[::-1] if self.turned else whole

    def __call__(self, tensor):
        """What comes from one tensor."""
        whole = tensor.T if self.turned else tensor
        size = whole.shape[-1] // self.parts if self.parts > 1 else 0
        return whole[..., self.part * size : (self.part + 1) * size] if size else whole


@dataclass(frozen=True)
class OfHeads(From):
    """Rows of each of `heads` heads, those from `start` to `stop` of `rows`, of a matrix [out, in] of them all.

    Where `pairs`, neighbours among them turn together: they are sorted into halves, as our rotation has them.
    """

    heads: int = 1
    rows: int = 1
    start: int = 0
    stop: int = 1
    pairs: bool = False

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the whole matrix."""
        return (self.heads * self.rows, own[0])

    def __call__(self, tensor):
        """What comes from one tensor."""
        own = tensor.reshape(self.heads, self.rows, -1)[:, self.start : self.stop]
        own = np.concatenate([own[:, 0::2], own[:, 1::2]], axis=1) if self.pairs else own
        return own.reshape(-1, tensor.shape[-1]).T


@dataclass(frozen=True)
class OfExperts(From):
    """One matrix [out, in] for each of `experts`, stacked; their number is the second `{}` of the name."""

    experts: int = 1

    def names(self, block: int) -> list[str]:
        """The tensors of one block's parameter."""
        return [self.name.format(block, expert) for expert in range(self.experts)]

    def rooms(self, own) -> list:
        """One for each expert."""
        return list(own)

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one tensor."""
        return own[:0:-1]

    def __call__(self, tensor):
        """What comes from one tensor."""
        return tensor.T


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
    fused = lambda i, kind: From(f"{block}.attn.c_attn.{kind}", part=i, parts=3)
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


# ---- DeepSeek-V3, whose matrices hold several of ours -------------------------------------------------------


def deepseek(
    heads: int,
    plain: int,
    turned: int,
    value: int,
    ranks: tuple[int | None, int],
    experts: int,
    above: int,
    pairs: bool,
):
    """The layout for heads of `plain` and `turned` features and a `value`; `above` is the number of the block above the last.

    What is there of that block predicts a second token, and is left aside.
    """
    attention, mlp, (query, latent) = f"{BLOCK}.self_attn", f"{BLOCK}.mlp", ranks
    part = lambda matrix, heads, rows, start, stop, pairs=False: OfHeads(
        f"{attention}.{matrix}.weight", heads=heads, rows=rows, start=start, stop=stop, pairs=pairs
    )
    queries, both = "q_b_proj" if query else "q_proj", plain + turned
    table = joined(
        OUTER,
        NORMS_IN,
        GATED,
        {"experts.norm_in.scale": NORMS_IN["mlp.norm_in.scale"]},
        linear("attention.query_down", f"{attention}.q_a_proj", bias=False),
        norm("attention.query_latent", f"{attention}.q_a_layernorm"),
        norm("attention.key_value_latent", f"{attention}.kv_a_layernorm"),
        linear("attention.out", f"{attention}.o_proj", bias=False),
        {
            "attention.query": part(queries, heads, both, 0, plain),
            "attention.query_rotary": part(queries, heads, both, plain, both, pairs),
            "attention.key_value_down": part("kv_a_proj_with_mqa", 1, latent + turned, 0, latent),
            "attention.key_rotary": part("kv_a_proj_with_mqa", 1, latent + turned, latent, latent + turned, pairs),
            "attention.key": part("kv_b_proj", heads, plain + value, 0, plain),
            "attention.value": part("kv_b_proj", heads, plain + value, plain, plain + value),
        },
        linear("experts.router", f"{mlp}.gate", bias=False),
        {"experts.balance": From(f"{mlp}.gate.e_score_correction_bias")},
        *(
            linear(f"experts.shared.{name}", f"{mlp}.shared_experts.{name}_proj", bias=False)
            | {f"experts.routed.{name}": OfExperts(f"{mlp}.experts.{{}}.{name}_proj.weight", experts=experts)}
            for name in ("gate", "up", "down")
        ),
    )
    return Layout(table, prefix="model.", buffers=BUFFERS, beside=(rf"(model\.)?layers\.{above}\..*",))
