"""From a model type and its configuration to an architecture of the zoo, and the layout of its files.

Defaults are those that a file means by leaving a value out.
"""

from collections.abc import Callable
from typing import Any

from ...model.branches.experts import SigmoidRouter
from ...model.branches.rotary import Rotary
from ...model.parameters.initializers import FanIn
from ...model.zoo.architecture import Architecture
from ...model.zoo.bert import Bert
from ...model.zoo.deepseek import DeepSeek
from ...model.zoo.gemma import Gemma2, Gemma3
from ...model.zoo.gpt import Gpt1, Gpt2
from ...model.zoo.llama import Llama, Mistral, Olmo2, Qwen3
from ...model.zoo.opt import Opt, OptPost
from . import layouts
from .configs import ACTIVATIONS, FULL, SLIDING, Config, kinds, positions, rotary, rotation, two_rotations, windows
from .sources import Layout

SIZES = {
    "depth": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "vocabulary": "vocab_size",
}
POOLER = ("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")
LOAD = ("aux_loss_alpha", "seq_aux", "output_router_logits", "router_aux_loss_coef")  # how experts were balanced
GPT_SIZES = {"depth": "n_layer", "width": "n_embd", "heads": "n_head", "vocabulary": "vocab_size"}


def bert(config: Config) -> tuple[Architecture, Layout]:
    """BERT with the head of its masked language model."""
    config.only(position_embedding_type="absolute", directionality="bidi", tie_word_embeddings=True)
    config.ignore(*POOLER)
    own = Bert(
        **sizes(config, SIZES, (12, 768, 12, 3072, 30_522)),
        context=config.whole("max_position_embeddings", 512),
        types=config.whole("type_vocab_size", 2),
        eps=config.real("layer_norm_eps", 1e-12),
        activation=config.activation("hidden_act", "gelu"),
    )
    return own, layouts.BERT


def gpt1(config: Config) -> tuple[Architecture, Layout]:
    """GPT-1, whose "gelu" is the tanh approximation."""
    config.only(tie_word_embeddings=True, n_special=0)
    own = sizes(config, GPT_SIZES, (12, 768, 12, 40_478))
    known = ACTIVATIONS | {"gelu": "gelu_tanh"}
    model = Gpt1(
        **own,
        hidden=4 * own["width"],
        context=learned(config, 512),
        eps=config.real("layer_norm_epsilon", 1e-5),
        activation=config.activation("afn", "gelu", known),
    )
    return model, layouts.GPT1


def gpt2(config: Config) -> tuple[Architecture, Layout]:
    """GPT-2."""
    config.only(tie_word_embeddings=True, scale_attn_by_inverse_layer_idx=False)
    config.ignore("reorder_and_upcast_attn")
    own = sizes(config, GPT_SIZES, (12, 768, 12, 50_257))
    model = Gpt2(
        **own,
        hidden=config.perhaps("n_inner") or 4 * own["width"],
        context=learned(config, 1024),
        eps=config.real("layer_norm_epsilon", 1e-5),
        activation=config.activation("activation_function", "gelu_new"),
        scale=None if config.flag("scale_attn_weights", True) else 1.0,
    )
    return model, layouts.GPT2


def opt(config: Config) -> tuple[Architecture, Layout]:
    """OPT, pre-norm or post-norm."""
    config.only(tie_word_embeddings=True, _remove_final_layer_norm=False)
    config.only(enable_bias=True, layer_norm_elementwise_affine=True)
    before = config.flag("do_layer_norm_before", True)
    own = sizes(config, SIZES | {"hidden": "ffn_dim"}, (12, 768, 12, 3072, 50_272))
    features = config.perhaps("word_embed_proj_dim") or own["width"]
    family, layout = (Opt, layouts.OPT_PRE) if before else (OptPost, layouts.OPT_POST)
    model = family(
        **own,
        context=config.whole("max_position_embeddings", 2048),
        features=None if features == own["width"] else features,
        activation=config.activation("activation_function", "relu"),
    )
    return model, layout


def llama(config: Config) -> tuple[Architecture, Layout]:
    """LLaMA 1 to 3, which have no window."""
    config.only(sliding_window=None, use_sliding_window=False)
    config.ignore("pretraining_tp", "max_sequence_length")
    more: dict[str, Any] = {"bias": config.flag("attention_bias", False), "mlp_bias": config.flag("mlp_bias", False)}
    usual = gated(config, (32, 4096, 32, 11_008, 32_000))
    alike(config, usual["depth"], FULL)
    return Llama(**usual, head=config.perhaps("head_dim"), **more), layouts.LLAMA


def mistral(config: Config) -> tuple[Architecture, Layout]:
    """Mistral: a window in all blocks, or in none."""
    usual, window = gated(config, (32, 4096, 32, 14_336, 32_000), keys=8), config.perhaps("sliding_window", 4096)
    alike(config, usual["depth"], FULL if window is None else SLIDING)
    return Mistral(**usual, head=config.perhaps("head_dim"), window=window), layouts.LLAMA


def qwen3(config: Config) -> tuple[Architecture, Layout]:
    """Qwen 3."""
    usual = gated(config, (32, 4096, 32, 22_016, 151_936), keys=32)
    depth, size = usual["depth"], config.perhaps("sliding_window", 4096)
    if not config.flag("use_sliding_window", False):
        size = None
    above = config.whole("max_window_layers", 28, least=0)
    rule = [SLIDING if size and i >= above else FULL for i in range(depth)]
    window = windows(config, kinds(config, depth, rule), size)
    bias = config.flag("attention_bias", False)
    return Qwen3(**usual, head=config.whole("head_dim", 128), window=window, bias=bias), layouts.QWEN3


def olmo2(config: Config) -> tuple[Architecture, Layout]:
    """OLMo 2."""
    config.only(sliding_window=None, use_sliding_window=False)
    usual = gated(config, (32, 4096, 32, 11_008, 50_304), eps=1e-5)
    alike(config, usual["depth"], FULL)
    more: dict[str, Any] = {"head": config.perhaps("head_dim"), "bias": config.flag("attention_bias", False)}
    return Olmo2(**usual, **more), layouts.OLMO2


def gemma2(config: Config) -> tuple[Architecture, Layout]:
    """Gemma 2: every second block, from the first, has a window."""
    own = capped(config, 256_000, (50.0, 30.0))
    rule = [FULL if i % 2 else SLIDING for i in range(own["depth"])]
    window = windows(config, kinds(config, own["depth"], rule), config.perhaps("sliding_window", 4096))
    return Gemma2(**own, rotary=rotary(config), window=window, context=context(config, 8192)), layouts.GEMMA2


def gemma3(config: Config) -> tuple[Architecture, Layout]:
    """Gemma 3's text model: two rotations, one where there is a window and one where there is none."""
    config.only(attn_logit_softcapping=None)  # transformers has the value, and doesn't use it
    own = capped(config, 262_208, (None, None))
    every = config.whole("sliding_window_pattern", 6)
    config.only(_sliding_window_pattern=every)
    rule = [SLIDING if (i + 1) % every else FULL for i in range(own["depth"])]
    which = kinds(config, own["depth"], rule)
    window = windows(config, which, config.perhaps("sliding_window", 4096))
    own |= {"rotary": two_rotations(config, which), "window": window, "context": context(config, 131_072)}
    return Gemma3(**own), layouts.GEMMA3


def deepseek_v3(config: Config) -> tuple[Architecture, Layout]:
    """DeepSeek-V3, without what predicts a second token."""
    config.only(tie_word_embeddings=False, attention_bias=False, norm_topk_prob=True)
    config.only(scoring_func="sigmoid", topk_method="noaux_tc", moe_layer_freq=1)
    own = sizes(config, SIZES, (61, 7168, 128, 18_432, 129_280))
    config.only(num_key_value_heads=own["heads"])
    given, theta = positions(config, 10_000.0)
    head = config.whole("qk_nope_head_dim", 128)
    model = DeepSeek(
        **own,
        context=context(config, 4096),
        eps=config.real("rms_norm_eps", 1e-6),
        activation=config.activation("hidden_act", "silu"),
        head=head,
        rotary_head=config.whole("qk_rope_head_dim", 64),
        value_head=config.whole("v_head_dim", 128),
        query_rank=config.perhaps("q_lora_rank", 1536),
        key_value_rank=config.whole("kv_lora_rank", 512),
        rotary=rotation(given, theta, yarn=True) if given else Rotary(theta),
        dense=config.whole("first_k_dense_replace", 3, least=0, most=own["depth"] - 1),
        router=router(config),
        shared=config.whole("n_shared_experts", 1, least=0),
        expert_hidden=config.whole("moe_intermediate_size", 2048),
    )
    config.only(head_dim=model.rotary_head, qk_head_dim=head + model.rotary_head)
    config.ignore("num_nextn_predict_layers", "num_mtp_layers", "ep_size", "pretraining_tp", *LOAD)
    return model, layouts.deepseek(model, config.flag("rope_interleave", True))


def router(config: Config) -> SigmoidRouter:
    """Returns which experts a token goes to."""
    return SigmoidRouter(
        config.whole("n_routed_experts", 256),
        config.whole("num_experts_per_tok", 8),
        config.whole("n_group", 8),
        config.whole("topk_group", 4),
        config.real("routed_scaling_factor", 2.5),
    )


# ---- what several share -------------------------------------------------------------------------------------


def sizes(config: Config, names: dict[str, str], defaults) -> dict[str, Any]:
    """Returns the sizes of an architecture, by the names that a configuration has for them."""
    found = {}
    for (ours, theirs), usual in zip(names.items(), defaults, strict=True):
        found[ours] = config.whole(theirs, usual)
    return found


def learned(config: Config, default: int) -> int:
    """Positions of GPT-1 and 2, whose files have two names for their number; and what belongs to other heads of theirs."""
    found = config.whole("n_positions", default)
    config.only(n_ctx=found)
    summary = ("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")
    config.ignore(*summary, "summary_first_dropout", "predict_special_tokens")
    return found


def alike(config: Config, depth: int, kind: str) -> None:
    """Refuses blocks of another kind than the one that a family has."""
    found = kinds(config, depth, [kind] * depth)
    if set(found) != {kind}:
        raise config.refuse("layer_types", found, f"only {kind} is supported here")


def gated(config: Config, defaults, keys: int | None = None, eps: float = 1e-6) -> dict:
    """Returns what LLaMA and its kin share."""
    found = sizes(config, SIZES, defaults)
    tied = config.flag("tie_word_embeddings", False)
    return {
        **found,
        "kv_heads": config.perhaps("num_key_value_heads", keys or found["heads"]) or found["heads"],
        "context": context(config, 2048),
        "eps": config.real("rms_norm_eps", eps),
        "activation": config.activation("hidden_act", "silu"),
        "rotary": rotary(config),
        "readout_weights": None if tied else FanIn(),
    }


def capped(config: Config, vocabulary: int, caps) -> dict:
    """Returns what Gemma 2 and 3 share."""
    config.only(tie_word_embeddings=True, use_bidirectional_attention=False)
    found = sizes(config, SIZES, (26, 2304, 8, 9216, vocabulary))
    activation = config.activation("hidden_activation", "gelu_pytorch_tanh")
    if config.activation("hidden_act", config.values.get("hidden_activation", "gelu_pytorch_tanh")) != activation:
        raise config.refuse("hidden_act", config.get("hidden_act"), "hidden_activation says something else")
    return {
        **found,
        "kv_heads": config.whole("num_key_value_heads", 4),
        "head": config.whole("head_dim", 256),
        "eps": config.real("rms_norm_eps", 1e-6),
        "activation": activation,
        "divisor": config.real("query_pre_attn_scalar", 256),
        "score_cap": config.perhaps_real("attn_logit_softcapping", caps[0]),
        "logit_cap": config.perhaps_real("final_logit_softcapping", caps[1]),
        "bias": config.flag("attention_bias", False),
    }


def context(config: Config, default: int) -> int:
    """Returns how many tokens a model is meant for, where positions are not rows of a table."""
    return config.whole("max_position_embeddings", default, most=2**31)


FAMILIES: dict[str, Callable[[Config], tuple[Architecture, Layout]]] = {
    "bert": bert,
    "openai-gpt": gpt1,
    "gpt2": gpt2,
    "opt": opt,
    "llama": llama,
    "mistral": mistral,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
    "olmo2": olmo2,
    "deepseek_v3": deepseek_v3,
}
