"""Where the parameters of decoders with delta nets are in their files."""

from dataclasses import replace
from itertools import accumulate

from ...model.zoo.hybrids import Qwen3Next, Qwen4
from .layouts import BLOCK, BUFFERS, HEADS, NORMS_IN, OF_EXPERTS, OUTER, QK_NORMS, decoder, experts
from .sources import From, Layout, Part, fused, joined, linear, norm

LINEAR = f"{BLOCK}.linear_attn"


def qwen3_next(own: Qwen3Next) -> Layout:
    """Queries, keys, values and gates of a delta net in one matrix, head by head, and both of its shares in another."""
    group = own.linear_heads // own.linear_key_heads
    values = group * own.linear_value_head
    parts, heads = (own.linear_head, own.linear_head, values, values), own.linear_key_heads
    delta_net = joined(
        fused("linear_attention", ("query", "key", "value", "gate"), f"{LINEAR}.in_proj_qkvz", parts, heads=heads),
        fused("linear_attention", ("write", "keep"), f"{LINEAR}.in_proj_ba", heads=heads),
        {"linear_attention.norm_in.scale": From(f"{BLOCK}.input_layernorm.weight")},
        beside_matrices(own),
    )
    return decoder(NORMS_IN, QK_NORMS, mlp=joined(delta_net, gated_heads(own), mixture(own)))


def qwen4(own: Qwen4, parts: int) -> Layout:
    """Every matrix of a delta net by itself but those of the convolution; norms of all lanes together, a table in `parts`."""
    delta_net = joined(
        fused("linear_attention", ("query", "key", "value"), f"{LINEAR}.in_proj_qkv", of_convolution(own)),
        *(linear(f"linear_attention.{ours}", f"{LINEAR}.in_proj_{theirs}", False) for ours, theirs in SINGLE.items()),
        beside_matrices(own),
        gated_lanes("linear_attention.read", f"{BLOCK}.attn_hyper_connection", own.lanes),
    )
    attention = joined(
        HEADS,
        QK_NORMS,
        gated_heads(own),
        indexer(own),
        gated_lanes("attention.read", f"{BLOCK}.attn_hyper_connection", own.lanes),
    )
    lanes = joined(
        gated_lanes("experts.read", f"{BLOCK}.mlp_hyper_connection", own.lanes),
        gated_lanes("leave", "model.hyper_connection_mixer", own.lanes),
    )
    table = joined(OUTER, delta_net, attention, mixture(own), lanes, memory(own, parts))
    return Layout(table, "model.", {"lm_head.weight": "token"}, BUFFERS, (r"mtp\..*",), hashed(own))


def within(layout: Layout) -> Layout:
    """Returns the layout of a text model that stands beside one of pictures, in the files of both."""
    table = {ours: replace(theirs, name=deeper(theirs.name)) for ours, theirs in layout.table.items()}
    constants = {deeper(theirs): numbers for theirs, numbers in layout.constants.items()}
    return replace(layout, table=table, constants=constants, beside=(*layout.beside, r"model\.visual\..*"))


def deeper(theirs: str) -> str:
    """Returns the name that a tensor of a text model has in such files."""
    stem = theirs.removeprefix("model.")
    return theirs if stem == theirs else f"model.language_model.{stem}"


SINGLE = {"gate": "z", "write": "b", "keep": "a"}


def of_convolution(own: Qwen3Next) -> tuple[int, int, int]:
    """Returns how many features of queries, keys and values lie side by side."""
    keys = own.linear_key_heads * own.linear_head
    return keys, keys, own.linear_heads * own.linear_value_head


def beside_matrices(own: Qwen3Next) -> dict[str, From]:
    """Returns what a delta net has beside the matrices that it begins with."""
    kernels = {}
    for which, name in enumerate(("query", "key", "value")):
        part = Part(which, of_convolution(own))
        kernels[f"linear_attention.convolution.{name}"] = From(f"{LINEAR}.conv1d.weight", True, part)
    return {
        **kernels,
        "linear_attention.log_rate": From(f"{LINEAR}.A_log"),
        "linear_attention.step": From(f"{LINEAR}.dt_bias"),
        "linear_attention.read_norm.scale": From(f"{LINEAR}.norm.weight"),
        "linear_attention.out": From(f"{LINEAR}.out_proj.weight", True),
    }


def gated_heads(own: Qwen3Next) -> dict[str, From]:
    """Returns queries and the gate, which lie side by side in each head."""
    return fused("attention", ("query", "gate"), f"{BLOCK}.self_attn.q_proj", heads=own.heads)


def mixture(own: Qwen3Next) -> dict[str, From]:
    """Returns experts, the shared one and its gate."""
    shared = {"experts.share": From(f"{BLOCK}.mlp.shared_expert_gate.weight", True)}
    for ours, theirs in OF_EXPERTS.items():
        shared[f"experts.shared.{ours}"] = From(f"{BLOCK}.mlp.shared_expert.{theirs}.weight", True)
    return joined(experts(own.router.experts, "mlp", OF_EXPERTS), shared)


def indexer(own: Qwen4) -> dict[str, From]:
    """Returns queries and the key of the indexer, which lie side by side, and their norms."""
    place, heads = f"{BLOCK}.self_attn.indexer", own.index_heads
    return joined(
        fused("attention", ("index_query", "index_key"), f"{place}.index_qk_proj", (heads, 1)),
        norm("attention.index_query_norm", f"{place}.q_layernorm"),
        norm("attention.index_key_norm", f"{place}.k_layernorm"),
    )


def gated_lanes(ours: str, theirs: str, lanes: int) -> dict[str, From]:
    """Returns what gates between lanes are made of; their norms are one, whose features are those of all lanes."""
    table = {
        f"{ours}.down": From(f"{theirs}.input_mix_weight_down.weight", True),
        f"{ours}.up": From(f"{theirs}.input_mix_weight_up.weight", True),
        f"{ours}.inject": From(f"{theirs}.block_inject_weight.weight", True),
    }
    return {**table, **of_lanes(f"{ours}.norm", f"{theirs}.hc_norm.weight", lanes, 0)}


def of_lanes(ours: str, theirs: str, lanes: int, first: int) -> dict[str, From]:
    """Returns the gain of each lane, counted from `first`, out of one for the features of all."""
    return {f"{ours}.{first + i}.scale": From(theirs, part=Part(i, (1,) * lanes)) for i in range(lanes)}


def hashed(own: Qwen4) -> dict[str, tuple[int, ...]]:
    """Returns the numbers by which n-grams are hashed, as they are stored."""
    constants = {}
    for layer, block in enumerate(own.memories):
        ngrams, place = own.memory(layer).ngrams, f"model.layers.{block - 1}.ple.ple_embedding"
        offsets = (0, *accumulate(ngrams.sizes[:-1]))
        constants[f"{place}.layer_multipliers"] = ngrams.multipliers
        constants[f"{place}.ngram_heads_vocab_sizes"] = ngrams.sizes
        constants[f"{place}.ngram_heads_offsets"] = offsets
    return constants


def memory(own: Qwen4, parts: int) -> dict[str, From]:
    """Returns the memories of n-grams; each table lies in so many parts."""
    place = f"{BLOCK}.ple"
    table = {
        "memory.table": From(f"{place}.ple_embedding.ngram_embedding.shard_{{}}.weight", each=parts, below=True),
        "memory.key": From(f"{place}.key_proj.weight", True),
        "memory.value": From(f"{place}.value_proj.weight", True),
        "memory.kernel": From(f"{place}.conv1d.weight", True),
    }
    for ours, theirs in {"key_norm": "norm_key", "query_norm": "norm_query", "value_norm": "norm_conv"}.items():
        table |= of_lanes(f"memory.{ours}", f"{place}.{theirs}.weight", own.lanes, 1)
    return table
