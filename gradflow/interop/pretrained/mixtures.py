"""Models with experts, from their configuration: an architecture, and the layout of its files."""

from typing import Any

from ...model.branches.experts import Router, SigmoidRouter, SoftmaxRouter
from ...model.branches.rotary import Rotary, Yarn
from ...model.zoo.architecture import Architecture
from ...model.zoo.decoders import GptOss, Mixtral, Qwen3Experts
from ...model.zoo.deepseek import DeepSeek
from . import layouts
from .configs import Config
from .rotations import FULL, SLIDING, kinds, positions, rotary, rotation, windows
from .shared import SIZES, Usual, context, gated, one_window, sizes, turned
from .sources import Layout

LOAD = ("aux_loss_alpha", "seq_aux", "output_router_logits", "router_aux_loss_coef")  # how experts were balanced


def mixtral(config: Config) -> tuple[Architecture, Layout]:
    """Mixtral."""
    config.ignore("router_jitter_noise", *LOAD)  # of training
    usual = Usual((32, 4096, 32, 14_336, 32_000), 8, 1e-5, base=1e6, context=131_072)
    own = turned(config, usual)
    window = one_window(config, own["depth"])
    experts = number(config, 8)
    router = SoftmaxRouter(experts, config.whole("num_experts_per_tok", 2, most=experts))
    model = Mixtral(**own, head=config.perhaps("head_dim"), window=window, router=router)
    return model, layouts.mixtral(experts)


def qwen3_moe(config: Config) -> tuple[Architecture, Layout]:
    """Qwen 3 with experts in all blocks, and, where it is asked for, a window in all."""
    config.only(decoder_sparse_step=1, mlp_only_layers=[])
    config.ignore("max_window_layers", *LOAD)
    own = turned(config, Usual((24, 2048, 32, 6144, 151_936), 4, context=32_768))
    window = config.perhaps("sliding_window", 4096) if config.flag("use_sliding_window", False) else None
    config.ignore("sliding_window")
    experts = number(config, 128)
    active = config.whole("num_experts_per_tok", 8, most=experts)
    router = SoftmaxRouter(experts, active, among="chosen" if config.flag("norm_topk_prob", False) else "all")
    own |= {"hidden": config.whole("moe_intermediate_size", 768), "head": config.perhaps("head_dim")}
    model = Qwen3Experts(**own, window=window, bias=config.flag("attention_bias", False), router=router)
    return model, layouts.qwen3_moe(experts)


# How gpt-oss turns where its file doesn't say it.
EXTENDED = {"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 4096}


def gpt_oss(config: Config) -> tuple[Architecture, Layout]:
    """gpt-oss: every second block, from the first, has a window."""
    config.only(hidden_act="silu", swiglu_alpha=1.702)  # the first is written and not computed with
    config.ignore("initial_context_length", *LOAD)
    own = gated(config, Usual((36, 2880, 64, 2880, 201_088), 8, 1e-5, context=131_072))
    given, base, _ = positions(config, 150_000.0)
    which = kinds(config, [FULL if i % 2 else SLIDING for i in range(own["depth"])])
    experts = number(config, 128)
    active = config.whole("num_experts_per_tok", 4, most=experts)
    config.only(experts_per_token=active)
    own |= {
        "activation": "gelu_sigmoid",
        "head": config.whole("head_dim", 64),
        "rotary": rotation(given or Config(EXTENDED, config.source), base, own["context"]),
        "window": windows(config, which, config.perhaps("sliding_window", 128)),
        "bias": config.flag("attention_bias", True),
        "router": SoftmaxRouter(experts, active),
        "limit": config.real("swiglu_limit", 7.0),
    }
    return GptOss(**own), layouts.gpt_oss(own["hidden"])


def number(config: Config, default: int) -> int:
    """Returns the number of experts, which has two names."""
    found = config.whole("num_local_experts", config.values.get("num_experts", default))
    config.only(num_experts=found)
    return found


def deepseek_v2(config: Config) -> tuple[Architecture, Layout]:
    """DeepSeek-V2."""
    config.only(norm_topk_prob=False, scoring_func="softmax", mlp_bias=False)
    groups = config.get("topk_method", "greedy") == "group_limited_greedy"
    config.only(topk_method="group_limited_greedy" if groups else "greedy")
    number = config.whole("n_routed_experts", 64)
    of, best = config.perhaps("n_group") or 1, config.perhaps("topk_group") or 1
    router = SoftmaxRouter(
        number,
        config.whole("num_experts_per_tok", None, most=number),
        *((of, best) if groups else (1, 1)),
        config.real("routed_scaling_factor", 1.0),
        among="all",
    )
    own = latent(config, (32, 4096, 32, 11_008, 102_400), 2048, router, dense=0, shared=2, hidden=1407)
    return own, layouts.deepseek(own, True)


def deepseek_v3(config: Config) -> tuple[Architecture, Layout]:
    """DeepSeek-V3, without what predicts a second token."""
    config.only(norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc")
    router = SigmoidRouter(
        config.whole("n_routed_experts", 256),
        config.whole("num_experts_per_tok", 8),
        config.whole("n_group", 8),
        config.whole("topk_group", 4),
        config.real("routed_scaling_factor", 2.5),
    )
    own = latent(config, (61, 7168, 128, 18_432, 129_280), 4096, router, dense=3, shared=1, hidden=2048)
    return own, layouts.deepseek(own, config.flag("rope_interleave", True))


def latent(config: Config, usual, length: int, router: Router, *, dense: int, shared: int, hidden: int) -> DeepSeek:
    """Returns what both have: latent attention, blocks without experts at the bottom, shared experts; with these defaults."""
    config.only(tie_word_embeddings=False, attention_bias=False, moe_layer_freq=1)
    own: dict[str, Any] = sizes(config, SIZES, usual)
    config.only(num_key_value_heads=own["heads"])
    head, features = config.whole("qk_nope_head_dim", 128), config.whole("qk_rope_head_dim", 64)
    own |= {"context": context(config, length), "head": head, "rotary_head": features}
    rotation = rotary(config, 10_000.0, own["context"])
    model = DeepSeek(
        **own,
        eps=config.real("rms_norm_eps", 1e-6),
        activation=config.activation("hidden_act", "silu"),
        value_head=config.whole("v_head_dim", 128),
        query_rank=config.perhaps("q_lora_rank", 1536),
        key_value_rank=config.whole("kv_lora_rank", 512),
        rotary=rotation,
        dense=config.whole("first_k_dense_replace", dense, least=0, most=own["depth"] - 1),
        router=router,
        shared=config.whole("n_shared_experts", shared, least=0),
        expert_hidden=config.whole("moe_intermediate_size", hidden),
        sharpness=sharpness(config, rotation),
    )
    config.only(head_dim=features, qk_head_dim=head + features)
    config.ignore("num_nextn_predict_layers", "num_mtp_layers", "ep_size", "pretraining_tp", *LOAD)
    return model


def sharpness(config: Config, rotation: Rotary) -> float:
    """Returns by how much scores are scaled up beyond what YaRN does to queries and keys."""
    given = config.table("rope_parameters") or config.table("rope_scaling")
    if given is None or not isinstance(rotation.scaling, Yarn):
        return 0.0
    return given.perhaps_real("mscale_all_dim") or 0.0
