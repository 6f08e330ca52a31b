"""Decoders with delta nets, from their configuration: an architecture, and the layout of its files."""

from typing import Any

from ...model.branches.experts import SoftmaxRouter
from ...model.inputs.ngrams import NGrams
from ...model.zoo.architecture import Architecture
from ...model.zoo.hybrids import FULL, LINEAR, Qwen3Next, Qwen4
from . import hybrid_layouts
from .configs import Config
from .mixtures import LOAD
from .rotations import full_every, rotary, turn
from .shared import Usual, gated
from .sources import Layout

PARTS = 4096  # of a table in its files; more are none
KINDS = {"linear_attention": LINEAR, "full_attention": FULL, "indexed_attention": FULL}
AMONG = {True: "chosen", False: "all"}  # what the weights of experts are normalized over
GATES = {"silu": "silu", "swish": "silu", "sigmoid": "sigmoid"}


def qwen3_next(config: Config) -> tuple[Architecture, Layout]:
    """Qwen3-Next with experts in all blocks, without what predicts a second token."""
    config.only(decoder_sparse_step=1, mlp_only_layers=[])
    own = hybrid(config, Usual((48, 2048, 16, 5632, 151_936), 2, context=32_768), share=0.25)
    model = Qwen3Next(**own)
    return model, hybrid_layouts.qwen3_next(model)


def qwen4(config: Config) -> tuple[Qwen4, Layout]:
    """Qwen4-Exp's text model, without what predicts a second token."""
    config.ignore("number_of_conv_states")
    config.only(model_type="qwen4_exp_text")
    own = hybrid(config, Usual((40, 2048, 16, 512, 248_320), 2, context=32_768), share=1.0)
    own["gate"] = config.activation("output_gate_type", config.values.get("hidden_act") or "silu", GATES)
    block = config.whole("indexer_compress_ratio")
    budget = config.whole("indexer_budget")
    if budget % block:
        raise config.refuse("indexer_budget", budget, f"a multiple of indexer_compress_ratio, {block}, is expected")
    config.only(indexer_kv_heads=1)
    model = Qwen4(
        **own,
        lanes=config.whole("hc_count", 4, least=2),
        rank=config.whole("hc_lowrank", 320),
        index_heads=config.whole("indexer_n_heads"),
        index_head=config.whole("indexer_head_dim"),
        index_block=block,
        index_blocks=budget // block,
        **memories(config, own),
    )
    return model, hybrid_layouts.qwen4(model, config.whole("split_ngram_parts", 512, most=PARTS))


def qwen4_of_two(config: Config) -> tuple[Architecture, Layout]:
    """The text model of a Qwen4-Exp that reads pictures too."""
    config.ignore("vision_config", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    text = config.table("text_config")
    if text is None:
        raise config.refuse("text_config", None, "the configuration of the text model is expected")
    model, layout = qwen4(text)
    config.only(tie_word_embeddings=model.readout_weights is None)
    text.complete()
    return model, hybrid_layouts.within(layout)


def hybrid(config: Config, usual: Usual, share: float) -> dict[str, Any]:
    """Returns what they have in common; of a head's features `share` are turned, where nothing is said."""
    config.ignore(*LOAD)
    own = gated(config, usual)
    config.ignore("intermediate_size")  # of a hidden layer without experts, which no block has
    own["head"] = config.whole("head_dim", 256)
    own["rotary"] = rotary(config, 10_000.0, own["context"], own["head"], share)
    experts = config.whole("num_experts", 512)
    active = config.whole("num_experts_per_tok", 10, most=experts)
    return {
        **own,
        "turn": attentions(config, own["depth"]),
        "bias": config.flag("attention_bias", False) and ("query", "gate", "key", "value", "out"),
        "router": SoftmaxRouter(experts, active, among=AMONG[config.flag("norm_topk_prob", True)]),
        "hidden": config.whole("moe_intermediate_size", 512),
        "shared_hidden": config.whole("shared_expert_intermediate_size", 512),
        "linear_heads": config.whole("linear_num_value_heads", 32),
        "linear_key_heads": config.whole("linear_num_key_heads", 16),
        "linear_head": config.whole("linear_key_head_dim", 128),
        "linear_value_head": config.whole("linear_value_head_dim", 128),
        "taps": config.whole("linear_conv_kernel_dim", 4),
    }


def attentions(config: Config, depth: int) -> tuple[str, ...]:
    """Returns which blocks have linear attention, as their shortest turn."""
    default = full_every(config.whole("full_attention_interval", 4), depth, "linear_attention")
    return turn([KINDS[kind] for kind in config.words("layer_types", KINDS, default)])


def memories(config: Config, own: dict[str, Any]) -> dict[str, Any]:
    """Returns the memories of n-grams, by the numbers of their blocks."""
    blocks = config.get("ple_layer_ids", [])
    if not isinstance(blocks, list) or any(block not in range(1, own["depth"] + 1) for block in blocks):
        raise config.refuse("ple_layer_ids", blocks, f"a list of numbers of blocks, 1 to {own['depth']}, is expected")
    features, longest = config.whole("ple_embed_dim", own["width"]), config.whole("ngram_size", 3, least=2)
    heads = config.whole("heads_per_ngram", 8)
    if features % ((longest - 1) * heads) and blocks:
        expected = f"a multiple of the {(longest - 1) * heads} heads of n-grams is expected"
        raise config.refuse("ple_embed_dim", features, expected)
    hashed = (longest, heads) if blocks else (2, 1)
    return {
        "memories": tuple(sorted(set(blocks))),
        "memory_features": features,
        "memory_taps": config.whole("ple_conv_kernel_size", 4),
        "ngrams": NGrams(
            own["vocabulary"],
            *hashed,
            config.whole("ngram_vocab_size_base", 20_000_000, most=2**31),
            end_of_text(config, bool(blocks)),
            seed=config.whole("seed", 1234, least=0),
            multiple=config.whole("make_ngram_vocab_size_divisible_by", 128),
        ),
    }


def end_of_text(config: Config, needed: bool) -> int:
    """Returns the token that ends a text, the first of several; 0 where none is said, unless memories need it."""
    ends = config.get("eos_token_id")
    if isinstance(ends, list):
        ends = next(iter(ends), None)
    if ends is not None:
        return Config({"eos_token_id": ends}, config.source).whole("eos_token_id", least=0)
    if needed:
        raise config.refuse(
            "eos_token_id", None, "the token that ends a text is expected, since ple_layer_ids has blocks"
        )
    return 0
