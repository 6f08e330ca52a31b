"""LLaMA and its kin, from their configuration: an architecture, and the layout of its files."""

from typing import Any

from ...model.zoo.architecture import Architecture
from ...model.zoo.decoders import Cohere2, Glm4, Granite, Olmo, StarCoder2
from ...model.zoo.gemma import Gemma, Gemma2, Gemma3
from ...model.zoo.llama import Llama, Mistral, Olmo2, Qwen3
from . import layouts
from .configs import ACTIVATIONS, Config
from .rotations import FULL, SLIDING, by_block, full_every, kinds, rotary, two_rotations, windows
from .shared import SIZES, Usual, alike, context, gated, one_window, size_of_head, sizes, turned
from .sources import Layout


def llama(config: Config) -> tuple[Architecture, Layout]:
    """LLaMA 1 to 3, which have no window."""
    config.only(sliding_window=None, use_sliding_window=False)
    config.ignore("pretraining_tp", "max_sequence_length")
    own = turned(config, Usual((32, 4096, 32, 11_008, 32_000)))
    alike(config, own["depth"], FULL)
    return Llama(**own, head=config.perhaps("head_dim"), **biases(config)), layouts.LLAMA


def mistral(config: Config) -> tuple[Architecture, Layout]:
    """Mistral: a window in all blocks, or in none."""
    own = turned(config, Usual((32, 4096, 32, 14_336, 32_000), 8))
    window = one_window(config, own["depth"], 4096)
    return Mistral(**own, head=config.perhaps("head_dim"), window=window), layouts.LLAMA


def qwen2(config: Config) -> tuple[Architecture, Layout]:
    """Qwen 2: LLaMA with biases of queries, keys and values."""
    own = turned(config, Usual((32, 4096, 32, 22_016, 151_936), 32, context=32_768))
    bias = ("query", "key", "value")
    return Llama(**own, window=upper_windows(config, own["depth"]), bias=bias), layouts.LLAMA


def qwen3(config: Config) -> tuple[Architecture, Layout]:
    """Qwen 3."""
    own = turned(config, Usual((32, 4096, 32, 22_016, 151_936), 32))
    own |= {"window": upper_windows(config, own["depth"]), "bias": config.flag("attention_bias", False)}
    return Qwen3(**own, head=config.whole("head_dim", 128)), layouts.QWEN3


def phi3(config: Config) -> tuple[Architecture, Layout]:
    """Phi 3: a window in all blocks, or in none; positions of a share of each head's features, where that is said."""
    own = gated(config, Usual((32, 3072, 32, 8192, 32_064), eps=1e-5, context=4096))
    original = config.whole("original_max_position_embeddings", 4096)
    own["rotary"] = rotary(config, 10_000.0, own["context"], size_of_head(own), original=original)
    window = one_window(config, own["depth"])
    return Llama(**own, window=window), layouts.phi3(own["heads"], own["kv_heads"])


def smollm3(config: Config) -> tuple[Architecture, Layout]:
    """SmolLM3: every fourth block knows no positions; with windows, these have one."""
    usual = Usual((36, 2048, 16, 11_008, 128_256), 4, base=2e6, context=32_768, tied=True)
    own = turned(config, usual)
    depth, every = own["depth"], config.whole("no_rope_layer_interval", 4)
    turns = config.get("no_rope_layers", [int((i + 1) % every != 0) for i in range(depth)])
    if not isinstance(turns, list) or len(turns) != depth or not all(one in (0, 1) for one in turns):
        raise config.refuse("no_rope_layers", turns, f"a list of {depth} numbers, 0 or 1, is expected")
    size, windowed = config.perhaps("sliding_window"), config.flag("use_sliding_window", False)
    rule = [SLIDING if windowed and size and not one else FULL for one in turns]  # where no list says it
    which = kinds(config, rule)
    own["rotary"] = by_block(config, [own["rotary"] if one else None for one in turns])
    own |= {"head": config.perhaps("head_dim"), "window": windows(config, which, size)}
    config.ignore("max_window_layers")
    return Llama(**own, **biases(config)), layouts.LLAMA


def granite(config: Config) -> tuple[Architecture, Layout]:
    """Granite."""
    own = turned(config, Usual((32, 4096, 32, 11_008, 32_000)))
    multipliers: dict[str, Any] = {
        "embedding_scale": config.real("embedding_multiplier", 1.0),
        "branch_scale": config.real("residual_multiplier", 1.0),
        "score_scale": config.real("attention_multiplier", 1.0),
        "logit_scale": 1 / config.real("logits_scaling", 1.0),
    }
    return Granite(**own, **multipliers, head=config.perhaps("head_dim"), **biases(config)), layouts.LLAMA


def olmo(config: Config) -> tuple[Architecture, Layout]:
    """OLMo 1, whose eps is in no configuration."""
    config.only(rms_norm_eps=None)
    own = turned(config, Usual((32, 4096, 32, 11_008, 50_304), eps_name="layer_norm_eps", eps=1e-5))
    config.only(layer_norm_eps=None)
    own |= {"clip": config.perhaps_real("clip_qkv"), "bias": config.flag("attention_bias", False)}
    return Olmo(**own, head=config.perhaps("head_dim")), layouts.LLAMA


def olmo2(config: Config) -> tuple[Architecture, Layout]:
    """OLMo 2."""
    config.only(sliding_window=None, use_sliding_window=False)
    own = turned(config, Usual((32, 4096, 32, 11_008, 50_304), eps=1e-5))
    alike(config, own["depth"], FULL)
    own |= {"head": config.perhaps("head_dim"), "bias": config.flag("attention_bias", False)}
    return Olmo2(**own), layouts.OLMO2


def olmo3(config: Config) -> tuple[Architecture, Layout]:
    """OLMo 3: OLMo 2 with windows in three of four blocks, whose positions stay where those of the others are scaled."""
    own = gated(config, Usual((32, 4096, 32, 11_008, 50_304), eps=1e-5))
    which = kinds(config, full_every(4, own["depth"]))
    base = config.real("rope_theta", 500_000.0)
    own["rotary"] = two_rotations(config, which, base, base, own["context"])
    own["window"] = windows(config, which, config.perhaps("sliding_window", 4096))
    own |= {"head": config.perhaps("head_dim"), "bias": config.flag("attention_bias", False)}
    return Olmo2(**own), layouts.OLMO2


def starcoder2(config: Config) -> tuple[Architecture, Layout]:
    """StarCoder2: a window in all blocks, or in none."""
    usual = Usual((30, 3072, 24, 12_288, 49_152), 2, 1e-5, "norm_epsilon", "gelu_pytorch_tanh", context=4096, tied=True)
    own = turned(config, usual)
    window, bias = one_window(config, own["depth"]), config.flag("use_bias", True)
    return StarCoder2(**own, window=window, bias=bias, mlp_bias=bias), layouts.STARCODER2


def cohere2(config: Config) -> tuple[Architecture, Layout]:
    """Command R7B: three of four blocks have a window and know positions, the fourth sees all and knows none."""
    usual = Usual((40, 8192, 64, 22_528, 256_000), eps=1e-5, eps_name="layer_norm_eps", context=8192, tied=True)
    own = turned(config, usual)
    every = config.whole("sliding_window_pattern", 4)
    which = kinds(config, full_every(every, own["depth"]))
    own["rotary"] = by_block(config, [own["rotary"] if kind == SLIDING else None for kind in which])
    own |= {"window": windows(config, which, config.perhaps("sliding_window", 4096))}
    own |= {"bias": config.flag("attention_bias", False), "logit_scale": config.real("logit_scale", 0.0625)}
    config.only(head_dim=size_of_head(own))
    return Cohere2(**own), layouts.cohere2(own["heads"], own["kv_heads"], size_of_head(own))


def glm4(config: Config) -> tuple[Architecture, Layout]:
    """GLM-4, version 0414."""
    own = gated(config, Usual((40, 4096, 32, 13_696, 151_552), 2, 1.5625e-7, context=131_072))
    own["head"] = config.whole("head_dim", 128)
    own["rotary"] = rotary(config, 10_000.0, own["context"], own["head"], 0.5)
    bias = ("query", "key", "value") if config.flag("attention_bias", True) else False
    features = own["rotary"].features or own["head"]
    return Glm4(**own, bias=bias), layouts.glm4(own["heads"], own["kv_heads"], features)


def gemma(config: Config) -> tuple[Architecture, Layout]:
    """Gemma 1, whose "gelu" is the tanh approximation."""
    config.only(tie_word_embeddings=True, use_bidirectional_attention=False)
    own = sizes(config, SIZES, (28, 3072, 16, 24_576, 256_000))
    length = context(config, 8192)
    act = config.activation("hidden_act", "gelu_pytorch_tanh", {**ACTIVATIONS, "gelu": "gelu_tanh"})
    model = Gemma(
        **own,
        kv_heads=config.whole("num_key_value_heads", 16),
        head=config.whole("head_dim", 256),
        context=length,
        eps=config.real("rms_norm_eps", 1e-6),
        activation=act,
        rotary=rotary(config, 10_000.0, length),
        bias=config.flag("attention_bias", False),
    )
    return model, layouts.LLAMA


def gemma2(config: Config) -> tuple[Architecture, Layout]:
    """Gemma 2: every second block, from the first, has a window."""
    own = capped(config, 256_000, (50.0, 30.0))
    rule = [FULL if i % 2 else SLIDING for i in range(own["depth"])]
    window = windows(config, kinds(config, rule), config.perhaps("sliding_window", 4096))
    length = context(config, 8192)
    return Gemma2(**own, rotary=rotary(config, 10_000.0, length), window=window, context=length), layouts.GEMMA2


def gemma3(config: Config) -> tuple[Architecture, Layout]:
    """Gemma 3's text model: two rotations, one where there is a window and one where there is none."""
    config.only(attn_logit_softcapping=None)  # transformers has the value, and doesn't use it
    own = capped(config, 262_208, (None, None))
    every = config.whole("sliding_window_pattern", 6)
    config.only(_sliding_window_pattern=every)
    which = kinds(config, full_every(every, own["depth"]))
    window = windows(config, which, config.perhaps("sliding_window", 4096))
    near, length = config.real("rope_local_base_freq", 10_000.0), context(config, 131_072)
    turned = two_rotations(config, which, near, 1_000_000.0, length)
    own |= {"rotary": turned, "window": window, "context": length}
    return Gemma3(**own), layouts.GEMMA3


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


def upper_windows(config: Config, depth: int):
    """Returns the windows of Qwen 2 and 3, which blocks from `max_window_layers` on have where they are asked for."""
    size = config.perhaps("sliding_window", 4096)
    if not config.flag("use_sliding_window", False):
        size = None
    above = config.whole("max_window_layers", 28, least=0)
    rule = [SLIDING if size and i >= above else FULL for i in range(depth)]
    return windows(config, kinds(config, rule), size)


def biases(config: Config) -> dict[str, Any]:
    """Returns whether matrices of attention and of the hidden layer have a bias."""
    return {"bias": config.flag("attention_bias", False), "mlp_bias": config.flag("mlp_bias", False)}
