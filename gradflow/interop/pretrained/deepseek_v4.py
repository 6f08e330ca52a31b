"""DeepSeek-V4, from its configuration, and where its parameters are in the files that transformers saves.

Its own files have other names, and experts in 4 bits, which are not read.
"""

from dataclasses import replace
from typing import Any

from ...model.branches.compressed import Compression, Index
from ...model.branches.experts import HashRouter, SoftplusRouter
from ...model.branches.rotary import Rotary, Yarn
from ...model.zoo.architecture import Architecture
from ...model.zoo.deepseek_v4 import DeepSeekV4
from .configs import Config
from .layouts import BLOCK, BUFFERS
from .mixtures import LOAD
from .rotations import SLIDING, rotation
from .shared import SIZES, context, sizes
from .sources import Counted, From, Layout, OfLanes, Part, joined, norm

SPARSE, HEAVY = "compressed_sparse_attention", "heavily_compressed_attention"
RATES = {SPARSE: 4, HEAVY: 128}
HASHED, ROUTED = "hash_moe", "moe"


def deepseek_v4(config: Config) -> tuple[Architecture, Layout]:
    """DeepSeek-V4, without what predicts a second token."""
    config.only(tie_word_embeddings=False, attention_bias=False, mlp_bias=False, num_key_value_heads=1)
    config.only(norm_topk_prob=True, scoring_func="sqrtsoftplus", n_shared_experts=1, rms_norm_eps=1e-6)
    config.only(hc_eps=1e-6, hc_sinkhorn_iters=20)
    config.ignore("num_nextn_predict_layers", "router_jitter_noise", *LOAD)
    names = {**SIZES, "hidden": "moe_intermediate_size"}
    own: dict[str, Any] = sizes(config, names, (43, 4096, 64, 2048, 129_280))
    head, length = config.whole("head_dim", 512), context(config, 1_048_576)
    near, far, turned = rotations(config, head, length)
    model = DeepSeekV4(
        **own,
        context=length,
        activation=config.activation("hidden_act", "silu"),
        head=head,
        rotary_head=turned,
        query_rank=config.whole("q_lora_rank", 1024),
        groups=config.whole("o_groups", 8),
        group_rank=config.whole("o_lora_rank", 1024),
        window=config.whole("sliding_window", 128),
        rotary=near,
        far_rotary=far,
        compressions=compressions(config, own["depth"]),
        routers=routers(config, own["depth"], own["vocabulary"]),
        limit=config.real("swiglu_limit", 10.0),
        lanes=config.whole("hc_mult", 4),
    )
    return model, layout(model)


def rotations(config: Config, head: int, length: int) -> tuple[Rotary, Rotary, int]:
    """Returns the rotation of blocks that read near tokens alone, that of the others, and how many features they turn.

    Both in `rope_parameters`, as "main" and "compress"; or what scales the second, whose bases stand beside it.
    """
    features = config.perhaps("qk_rope_head_dim")
    share = config.real("partial_rotary_factor", 64 / 512 if features is None else features / head)
    turned = int(head * share)
    config.only(qk_rope_head_dim=turned)
    given = config.table("rope_parameters") or config.table("rope_scaling") or Config({}, config.source)
    main, compress = given.table("main"), given.table("compress")
    if main is None or compress is None:
        main, compress = Config({}, given.source), unmagnified(given)
    else:
        given.complete()
    found = []
    for one, name, usual in ((main, "rope_theta", 10_000.0), (compress, "compress_rope_theta", 160_000.0)):
        base = config.real(name, one.values.get("rope_theta", usual))
        rotary = rotation(one, base, length, head, share)
        if rotary.base != base or (rotary.features or head) != turned:
            raise config.refuse(name, base, f"{one.source} has another, or another share of a head than {share}")
        if not (rotary.scaling is None or isinstance(rotary.scaling, Yarn)):
            raise one.refuse("rope_type", one.get("rope_type"), "default and yarn are supported here")
        found.append(replace(rotary, features=None, pairs="neighbours"))
    return found[0], found[1], turned


def unmagnified(given: Config) -> Config:
    """Returns what scales a rotation, with a factor of 1 for turned queries and keys where it says none."""
    if given.get("rope_type", given.get("type")) != "yarn":
        return given
    return Config({"attention_factor": 1.0, **given.values}, given.source)


def compressions(config: Config, depth: int) -> tuple[Compression | None, ...]:
    """Returns what the entries of each block stand for."""
    default = [HEAVY, HEAVY, *[HEAVY, SPARSE] * depth][:depth]
    rates = config.table("compress_rates") or Config({}, config.source)
    index = Index(
        config.whole("index_n_heads", 64), config.whole("index_head_dim", 128), config.whole("index_topk", 512)
    )
    of_kind = {
        SLIDING: None,
        SPARSE: Compression(rates.whole(SPARSE, RATES[SPARSE]), 2, index),
        HEAVY: Compression(rates.whole(HEAVY, RATES[HEAVY])),
    }
    rates.complete()
    return tuple(of_kind[kind] for kind in config.words("layer_types", of_kind, default))


def routers(config: Config, depth: int, vocabulary: int) -> tuple[SoftplusRouter, ...]:
    """Returns the router of each block."""
    default = [HASHED] * min(depth, 3) + [ROUTED] * (depth - 3)
    experts = config.whole("n_routed_experts", 256)
    active, scale = config.whole("num_experts_per_tok", 6, most=experts), config.real("routed_scaling_factor", 1.5)
    of_kind = {
        HASHED: HashRouter(experts, active, scale=scale, vocabulary=vocabulary),
        ROUTED: SoftplusRouter(experts, active, scale=scale),
    }
    return tuple(of_kind[kind] for kind in config.words("mlp_layer_types", of_kind, default))


# ---- where its parameters are ---------------------------------------------------------------------------------

OF_ATTENTION = {
    "query_down": "wq_a",
    "query": "wq_b",
    "key": "wkv",
    "entry": "compressor.wkv",
    "entry_gate": "compressor.wgate",
    "index": "indexer.compressor.wkv",
    "index_gate": "indexer.compressor.wgate",
    "index_query": "indexer.wq_b",
    "index_weight": "indexer.weights_proj",
    "out_down": "wo_a",
    "out": "wo_b",
}
THEIR_NORMS = {
    "query_latent": "q_norm",
    "key_norm": "norm",
    "entry_norm": "compressor.norm",
    "index_norm": "indexer.compressor.norm",
}
OF_EXPERTS = {"gate": "w1", "down": "w2", "up": "w3"}
GATES = ("read", "write", "skip")  # of lanes, in the order in which they lie together


def layout(own: DeepSeekV4) -> Layout:
    """Compressed attention and experts between lanes, by the names that transformers saves."""
    attention, ffn, lanes = f"{BLOCK}.attn", f"{BLOCK}.ffn", own.lanes
    router = own.routers[0]
    table = joined(
        {"token": From("model.embed_tokens.weight"), "readout": From("head.weight", transposed=True)},
        matrices("attention", OF_ATTENTION, attention),
        *(norm(f"attention.{ours}", f"{attention}.{theirs}") for ours, theirs in THEIR_NORMS.items()),
        {
            "attention.sink": From(f"{attention}.attn_sink"),
            "attention.entry_place": From(f"{attention}.compressor.ape"),
            "attention.index_place": From(f"{attention}.indexer.compressor.ape"),
            "experts.router": From(f"{ffn}.gate.weight", transposed=True),
            "experts.balance": From(f"{ffn}.gate.bias"),
            "experts.table": Counted(f"{ffn}.gate.tid2eid", number=router.active, kinds=router.experts),
        },
        matrices("experts.shared", OF_EXPERTS, f"{ffn}.shared_experts"),
        matrices("experts.routed", OF_EXPERTS, f"{ffn}.experts.{{}}", each=router.experts),
        norm("attention.norm_in", f"{BLOCK}.attn_norm"),
        norm("experts.norm_in", f"{BLOCK}.ffn_norm"),
        between_lanes("attention", f"{BLOCK}.hc_attn", lanes),
        between_lanes("experts", f"{BLOCK}.hc_ffn", lanes),
        {
            "leave.1.weights": OfLanes("model.hc_head.hc_fn", transposed=True, lanes=lanes),
            "leave.1.bias": From("model.hc_head.hc_base"),
            "leave.1.scale": From("model.hc_head.hc_scale"),
        },
        norm("leave.2", "model.norm"),
    )
    return Layout(table, prefix="model.", buffers=BUFFERS, beside=(r"(model\.)?mtp\..*",))


def between_lanes(ours: str, theirs: str, lanes: int) -> dict[str, From]:
    """Returns the gains of a sublayer between lanes, whose weights, biases and factors lie side by side."""
    table: dict[str, From] = {}
    for which, gate in enumerate(GATES):
        sizes = Part(which, (1, 1, lanes))
        table[f"{ours}.{gate}.weights"] = OfLanes(f"{theirs}_fn", transposed=True, part=sizes, lanes=lanes)
        table[f"{ours}.{gate}.bias"] = From(f"{theirs}_base", part=sizes)
        table[f"{ours}.{gate}.scale"] = From(f"{theirs}_scale", part=Part(which, (1, 1, 1)))
    return table


def matrices(ours: str, names: dict[str, str], place: str, each: int | None = None) -> dict[str, From]:
    """Returns matrices that are stored [out, in], of several experts each by itself."""
    table = {}
    for one, theirs in names.items():
        table[f"{ours}.{one}"] = From(f"{place}.{theirs}.weight", transposed=True, each=each)
    return table
