"""T5 from its configuration, an encoder and a decoder: an architecture, and the layout of its files."""

from ...model.parameters.initializers import FanIn
from ...model.zoo.t5 import T5, T5Gated
from .configs import Config
from .shared import sizes
from .sources import From, Layout, joined, linear

SIZES = {
    "depth": "num_layers",
    "width": "d_model",
    "heads": "num_heads",
    "head": "d_kv",
    "hidden": "d_ff",
    "vocabulary": "vocab_size",
    "buckets": "relative_attention_num_buckets",
    "farthest": "relative_attention_max_distance",
    "context": "n_positions",
}
GATED = "gated-"
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu"}
HEADS = {"query": "q", "key": "k", "value": "v", "out": "o"}
MATRICES = {"up": "wi", "down": "wo"}
MATRICES_GATED = {"gate": "wi_0", "up": "wi_1", "down": "wo"}


def t5(config: Config) -> tuple[T5, Layout]:
    """T5 and T5 1.1: whether the hidden layer is gated, logits are scaled and the table is the readout, each is said.

    Where nothing is said of their scale, logits are scaled where the table is the readout, as in the first version.
    """
    tied = config.flag("tie_word_embeddings", True)
    said = config.get("feed_forward_proj", "relu")
    kind = T5Gated if isinstance(said, str) and said.startswith(GATED) else T5
    which = {**ACTIVATIONS, **{f"{GATED}{theirs}": ours for theirs, ours in ACTIVATIONS.items()}}
    activation = config.activation("feed_forward_proj", "relu", {**which, f"{GATED}gelu": "gelu_tanh"})
    config.only(is_gated_act=kind is T5Gated)
    config.ignore("dense_act_fn")
    depth = config.whole("num_layers", 6)
    own = kind(
        **sizes(config, SIZES, (6, 512, 8, 64, 2048, 32_128, 32, 128, 512)),
        decoder_depth=config.perhaps("num_decoder_layers", depth),
        eps=config.real("layer_norm_epsilon", 1e-6),
        activation=activation,
        readout_weights=None if tied else FanIn(),
        scaled_logits=config.flag("scale_decoder_outputs", tied),
    )
    return own, layout(MATRICES_GATED if kind is T5Gated else MATRICES)


def _attention(ours: str, theirs: str, place: str) -> dict[str, From]:
    """Returns the matrices of one attention sublayer, and its norm."""
    matrices = [linear(f"{ours}.{name}", f"{place}.{theirs}.{short}", bias=False) for name, short in HEADS.items()]
    return joined(*matrices, {f"{ours}.norm_in.scale": From(f"{place}.layer_norm.weight")})


def _hidden(ours: str, place: str, matrices: dict[str, str]) -> dict[str, From]:
    """Returns the matrices of one feed-forward sublayer, and its norm."""
    table = [
        linear(f"{ours}.{name}", f"{place}.DenseReluDense.{short}", bias=False) for name, short in matrices.items()
    ]
    return joined(*table, {f"{ours}.norm_in.scale": From(f"{place}.layer_norm.weight")})


def layout(matrices: dict[str, str]) -> Layout:
    """Returns the layout of T5's names; biases by distance lie in the first block, whose others share them.

    Old files have such biases of cross-attention too, which nothing computes with.
    """
    encoder, decoder = "encoder.block.{}.layer", "decoder.block.{}.layer"
    bias = "{}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return Layout(
        joined(
            {"token": From("shared.weight")},
            {f"{side}_bias": From(bias.format(side)) for side in ("encoder", "decoder")},
            {f"{side}.leave.scale": From(f"{side}.final_layer_norm.weight") for side in ("encoder", "decoder")},
            _attention("encoder.attention", "SelfAttention", f"{encoder}.0"),
            _hidden("encoder.mlp", f"{encoder}.1", matrices),
            _attention("decoder.attention", "SelfAttention", f"{decoder}.0"),
            _attention("decoder.cross", "EncDecAttention", f"{decoder}.1"),
            _hidden("decoder.mlp", f"{decoder}.2", matrices),
            {"readout.matrix": From("lm_head.weight", transposed=True)},
        ),
        prefix="",
        copies=dict.fromkeys(("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "token"),
        buffers=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    )
