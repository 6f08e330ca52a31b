"""Where the parameters of GPT and its kin are in their files: tables from our names to theirs.

GPT-1 and 2 have the same names and not the same places of their norms, and so have the two placements of OPT.
"""

from .sources import QKV, From, Layout, Part, fused, joined, linear, norm


def _gpt(place: str, outer: dict[str, From]) -> Layout:
    """Their matrices are stored [in, out], queries, keys and values in one."""
    block = "transformer.h.{}"
    matrix = lambda ours, theirs: {ours: From(f"{theirs}.weight"), f"{ours}.bias": From(f"{theirs}.bias")}
    return Layout(
        joined(
            outer,
            fused("attention", QKV, f"{block}.attn.c_attn", transposed=False),
            matrix("attention.out", f"{block}.attn.c_proj"),
            norm(f"attention.{place}", f"{block}.ln_1"),
            matrix("mlp.up", f"{block}.mlp.c_fc"),
            matrix("mlp.down", f"{block}.mlp.c_proj"),
            norm(f"mlp.{place}", f"{block}.ln_2"),
        ),
        prefix="transformer.",
        copies={"lm_head.weight": "token"},
        buffers=(r".*\.attn\.(masked_)?bias",),
    )


GPT1 = _gpt(
    "norm_out",
    {"token": From("transformer.tokens_embed.weight"), "position": From("transformer.positions_embed.weight")},
)
GPT2 = _gpt(
    "norm_in",
    joined(
        {"token": From("transformer.wte.weight"), "position": From("transformer.wpe.weight")},
        norm("leave", "transformer.ln_f"),
    ),
)


def _opt(place: str) -> Layout:
    decoder, block = "model.decoder", "model.decoder.layers.{}"
    short = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
    return Layout(
        joined(
            {"token": From(f"{decoder}.embed_tokens.weight"), "position": From(f"{decoder}.embed_positions.weight")},
            linear("project", f"{decoder}.project_in", bias=False),
            *(linear(f"attention.{ours}", f"{block}.self_attn.{theirs}") for ours, theirs in short.items()),
            norm(f"attention.{place}", f"{block}.self_attn_layer_norm"),
            linear("mlp.up", f"{block}.fc1"),
            linear("mlp.down", f"{block}.fc2"),
            norm(f"mlp.{place}", f"{block}.final_layer_norm"),
            norm("leave", f"{decoder}.final_layer_norm"),
            linear("readout.before.dense", f"{decoder}.project_out", bias=False),
        ),
        prefix="model.",
        copies={"lm_head.weight": "token"},
    )


OPT_PRE, OPT_POST = _opt("norm_in"), _opt("norm_out")


# ---- positions that turn queries and keys -------------------------------------------------------------------

READOUT = {
    "readout": From("lm_head.weight", transposed=True),
    "readout.matrix": From("lm_head.weight", transposed=True),
    "readout.bias": From("lm_head.bias"),
}


def final(theirs: str) -> dict[str, From]:
    """Returns the final norm; of a stream of two lanes it is the second of what stands there."""
    return joined(norm("leave", theirs), norm("leave.2", theirs))


def neox(heads: int) -> Layout:
    """Queries, keys and values in one matrix, head by head."""
    block = "gpt_neox.layers.{}"
    return Layout(
        joined(
            {"token": From("gpt_neox.embed_in.weight"), "readout": From("embed_out.weight", transposed=True)},
            fused("attention", QKV, f"{block}.attention.query_key_value", heads=heads),
            linear("attention.out", f"{block}.attention.dense"),
            linear("mlp.up", f"{block}.mlp.dense_h_to_4h"),
            linear("mlp.down", f"{block}.mlp.dense_4h_to_h"),
            norm("attention.norm_in", f"{block}.input_layernorm"),
            norm("mlp.norm_in", f"{block}.post_attention_layernorm"),
            final("gpt_neox.final_layer_norm"),
        ),
        prefix="gpt_neox.",
        copies={"embed_out.weight": "token"},
        buffers=(r".*\.attention\.(masked_)?bias", r".*\.rotary_emb\.inv_freq"),
    )


def gptj(heads: int, turned: int) -> Layout:
    """The first `turned` features of a head are turned in neighbouring pairs; one norm a block, for both branches."""
    block = "transformer.h.{}"
    pairs = Part(0, (1,), heads, turned)
    return Layout(
        joined(
            {"token": From("transformer.wte.weight")},
            READOUT,
            {f"attention.{n}": From(f"{block}.attn.{n[0]}_proj.weight", True, pairs) for n in ("query", "key")},
            linear("attention.value", f"{block}.attn.v_proj", bias=False),
            linear("attention.out", f"{block}.attn.out_proj", bias=False),
            linear("mlp.up", f"{block}.mlp.fc_in"),
            linear("mlp.down", f"{block}.mlp.fc_out"),
            norm("attention.norm_in", f"{block}.ln_1"),
            norm("mlp.norm_in", f"{block}.ln_1"),
            final("transformer.ln_f"),
        ),
        prefix="transformer.",
        copies={"lm_head.weight": "token"},
        buffers=(r".*\.attn\.(masked_)?bias", r".*embed_positions"),
    )
