"""GPT and its kin, from their configuration: an architecture, and the layout of its files."""

from ...model.branches.rotary import Rotary
from ...model.zoo.architecture import Architecture
from ...model.zoo.gpt import Gpt1, Gpt2, GptJ, GptNeoX
from ...model.zoo.opt import Opt, OptPost
from . import gpt_layouts as layouts
from .configs import ACTIVATIONS, Config
from .rotations import rotary
from .shared import SIZES, context, readout, sizes
from .sources import Layout

GPT_SIZES = {"depth": "n_layer", "width": "n_embd", "heads": "n_head", "vocabulary": "vocab_size"}


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


def gpt_neox(config: Config) -> tuple[Architecture, Layout]:
    """GPT-NeoX, whose attention and feed-forward are in parallel, or one after the other."""
    own = sizes(config, SIZES, (44, 6144, 64, 24_576, 50_432))
    base, share = config.real("rotary_emb_base", 10_000.0), config.real("rotary_pct", 0.25)
    model = GptNeoX(
        **own,
        context=context(config, 2048),
        eps=config.real("layer_norm_eps", 1e-5),
        activation=config.activation("hidden_act", "gelu"),
        rotary=rotary(config, base, context(config, 2048), own["width"] // own["heads"], share),
        bias=config.flag("attention_bias", True),
        placement="parallel" if config.flag("use_parallel_residual", True) else "pre",
        readout_weights=readout(config, False),
    )
    return model, layouts.neox(own["heads"])


def gptj(config: Config) -> tuple[Architecture, Layout]:
    """GPT-J."""
    own = sizes(config, GPT_SIZES, (28, 4096, 16, 50_400))
    head = own["width"] // own["heads"]
    turned = config.whole("rotary_dim", 64, least=2, most=head)
    model = GptJ(
        **own,
        hidden=config.perhaps("n_inner") or 4 * own["width"],
        context=learned(config, 2048),
        eps=config.real("layer_norm_epsilon", 1e-5),
        activation=config.activation("activation_function", "gelu_new"),
        rotary=Rotary(features=None if turned == head else turned),
        readout_weights=readout(config, False),
    )
    return model, layouts.gptj(own["heads"], turned)


def learned(config: Config, default: int) -> int:
    """Positions of GPT-1 and 2, whose files have two names for their number; and what belongs to other heads of theirs."""
    found = config.whole("n_positions", default)
    config.only(n_ctx=found)
    summary = ("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels")
    config.ignore(*summary, "summary_first_dropout", "predict_special_tokens")
    return found
