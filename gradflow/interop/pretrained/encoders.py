"""BERT and its kin, from their configuration: an architecture, and the layout of its files."""

from ...model.zoo.architecture import Architecture
from ...model.zoo.bert import Bert, ModernBert
from . import encoder_layouts as layouts
from .configs import Config
from .rotations import FULL, SLIDING, kinds, two_rotations, windows
from .shared import SIZES, context, sizes
from .sources import Layout

POOLER = ("pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")


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


def roberta(config: Config) -> tuple[Architecture, Layout]:
    """RoBERTa: BERT whose positions are counted from behind the number of its token for padding, and whose head has GELU.

    There a token for padding in a text has no position of its own, whatever the mask; here every token of a text has one.
    """
    config.only(position_embedding_type="absolute", tie_word_embeddings=True)
    first = 1 + config.whole("pad_token_id", 1, least=0)
    own = Bert(
        **sizes(config, SIZES, (12, 768, 12, 3072, 50_265)),
        context=config.whole("max_position_embeddings", 512, least=first + 1) - first,
        first=first,
        types=config.whole("type_vocab_size", 2),
        eps=config.real("layer_norm_eps", 1e-12),
        activation=config.activation("hidden_act", "gelu"),
        head_activation="gelu",
    )
    return own, layouts.ROBERTA


DISTIL_SIZES = {
    "depth": "n_layers",
    "width": "dim",
    "heads": "n_heads",
    "hidden": "hidden_dim",
    "vocabulary": "vocab_size",
}


def distilbert(config: Config) -> tuple[Architecture, Layout]:
    """DistilBERT: BERT without types of tokens."""
    config.only(tie_word_embeddings=True)
    config.ignore("sinusoidal_pos_embds")  # how the rows of positions began: they are in the file
    own = Bert(
        **sizes(config, DISTIL_SIZES, (6, 768, 12, 3072, 30_522)),
        context=config.whole("max_position_embeddings", 512),
        types=0,
        activation=config.activation("activation", "gelu"),
    )
    return own, layouts.DISTILBERT


def modernbert(config: Config) -> tuple[Architecture, Layout]:
    """ModernBERT, whose local attention reaches half of `local_attention` to both sides."""
    config.only(tie_word_embeddings=True, rope_scaling=None)
    config.ignore(
        "initializer_cutoff_factor", "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad"
    )
    config.ignore("classifier_pooling", "sparse_prediction", "sparse_pred_ignore_index")
    own = sizes(config, SIZES, (22, 768, 12, 1152, 50_368))
    every = config.whole("global_attn_every_n_layers", 3)
    which = kinds(config, [SLIDING if i % every else FULL for i in range(own["depth"])])
    far, near = config.real("global_rope_theta", 160_000.0), config.real("local_rope_theta", 10_000.0)
    model = ModernBert(
        **own,
        context=context(config, 8192),
        eps=config.real("norm_eps", 1e-5),
        norm_bias=config.flag("norm_bias", False),
        activation=config.activation("hidden_activation", "gelu"),
        bias=config.flag("attention_bias", False),
        mlp_bias=config.flag("mlp_bias", False),
        rotary=two_rotations(config, which, near, far, context(config, 8192)),
        window=windows(config, which, config.whole("local_attention", 128) // 2 + 1),
        head_activation=config.activation("classifier_activation", "gelu"),
        head_bias=config.flag("classifier_bias", False),
        readout_bias=config.flag("decoder_bias", True),
    )
    return model, layouts.MODERNBERT
