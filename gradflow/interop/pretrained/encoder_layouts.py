"""Where the parameters of BERT and its kin are in their files: tables from our names to theirs."""

from .sources import QKV, From, Layout, fused, joined, linear, norm


def _bert(stem: str, head: str, transform: dict[str, From], types: bool = True) -> Layout:
    """Returns the layout of BERT's names, below `stem`, with the head of a masked language model that has its bias in `head`."""
    layer, rows = f"{stem}.encoder.layer.{{}}", f"{stem}.embeddings"
    return Layout(
        joined(
            {"token": From(f"{rows}.word_embeddings.weight")},
            {"position": From(f"{rows}.position_embeddings.weight")},
            {"type": From(f"{rows}.token_type_embeddings.weight")},
            norm("enter", f"{rows}.LayerNorm"),
            *(linear(f"attention.{name}", f"{layer}.attention.self.{name}") for name in QKV),
            linear("attention.out", f"{layer}.attention.output.dense"),
            norm("attention.norm_out", f"{layer}.attention.output.LayerNorm"),
            linear("mlp.up", f"{layer}.intermediate.dense"),
            linear("mlp.down", f"{layer}.output.dense"),
            norm("mlp.norm_out", f"{layer}.output.LayerNorm"),
            transform,
            {"readout.bias": From(f"{head}.bias")},
        ),
        prefix=f"{stem}.",
        copies={f"{head}.decoder.weight": "token", f"{head}.decoder.bias": "readout.bias"},
        buffers=(rf"({stem}\.)?embeddings\.(position|token_type)_ids",),
        beside=(rf"({stem}\.)?pooler\..*", r"cls\.seq_relationship\..*"),
    )


def _transform(dense: str, layer_norm: str) -> dict[str, From]:
    """Returns what stands in front of the readout of a masked language model."""
    return joined(linear("readout.before.1.dense", dense), norm("readout.before.2", layer_norm))


BERT = _bert(
    "bert", "cls.predictions", _transform("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
)
ROBERTA = _bert("roberta", "lm_head", _transform("lm_head.dense", "lm_head.layer_norm"))

_LAYER = "distilbert.transformer.layer.{}"
DISTILBERT = Layout(
    joined(
        {"token": From("distilbert.embeddings.word_embeddings.weight")},
        {"position": From("distilbert.embeddings.position_embeddings.weight")},
        norm("enter", "distilbert.embeddings.LayerNorm"),
        linear("attention.query", f"{_LAYER}.attention.q_lin"),
        linear("attention.key", f"{_LAYER}.attention.k_lin"),
        linear("attention.value", f"{_LAYER}.attention.v_lin"),
        linear("attention.out", f"{_LAYER}.attention.out_lin"),
        norm("attention.norm_out", f"{_LAYER}.sa_layer_norm"),
        linear("mlp.up", f"{_LAYER}.ffn.lin1"),
        linear("mlp.down", f"{_LAYER}.ffn.lin2"),
        norm("mlp.norm_out", f"{_LAYER}.output_layer_norm"),
        _transform("vocab_transform", "vocab_layer_norm"),
        {"readout.bias": From("vocab_projector.bias")},
    ),
    prefix="distilbert.",
    copies={"vocab_projector.weight": "token"},
)

_BLOCK = "model.layers.{}"
MODERNBERT = Layout(
    joined(
        {"token": From("model.embeddings.tok_embeddings.weight")},
        norm("enter", "model.embeddings.norm"),
        fused("attention", QKV, f"{_BLOCK}.attn.Wqkv"),
        linear("attention.out", f"{_BLOCK}.attn.Wo"),
        norm("attention.norm_in", f"{_BLOCK}.attn_norm"),
        fused("mlp", ("gate", "up"), f"{_BLOCK}.mlp.Wi"),
        linear("mlp.down", f"{_BLOCK}.mlp.Wo"),
        norm("mlp.norm_in", f"{_BLOCK}.mlp_norm"),
        norm("leave", "model.final_norm"),
        _transform("head.dense", "head.norm"),
        {"readout.bias": From("decoder.bias")},
    ),
    prefix="model.",
    copies={"decoder.weight": "token"},
)
