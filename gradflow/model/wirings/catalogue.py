"""The catalogue: every wiring and placement of the field by name."""

from collections.abc import Callable

import pandas as pd

from ...results.arguments import known, shown
from ..layers.layer import Layer
from .carried import nanochat, span_norm, unet, value_residual
from .gated import adaln_zero, geonorm, gpas, highway, huginn, laurel, prores
from .history import attn_res, block_attn_res, deep_cross_attention, denseformer, muddformer
from .manifold import frac_connections, gated_residual, jpmhc, kromhc, mhc_lite, mhc_v4
from .multi_lane import b2t, dynamic_hyper_connections, hyper_connections, mhc, parallel, residual, siamese
from .placement import Placement, Stage, hybrid_norm, hybrid_norm_star, keel, mix_ln, normformer
from .residual_scaling import (
    admin,
    deepnorm,
    deepscale,
    depth_scaled,
    fixup,
    layernorm_scaling,
    layerscale,
    ngpt,
    rezero,
    t_fixup,
)
from .wiring import Wiring, none, post, pre, res_post, sandwich, sub_ln

WIRINGS: dict[str, Callable[..., Wiring]] = {
    "pre": pre,
    "post": post,
    "res_post": res_post,
    "sandwich": sandwich,
    "none": none,
    "sub_ln": sub_ln,
    "deepnorm": deepnorm,
    "admin": admin,
    "rezero": rezero,
    "layerscale": layerscale,
    "depth_scaled": depth_scaled,
    "layernorm_scaling": layernorm_scaling,
    "deepscale": deepscale,
    "fixup": fixup,
    "t_fixup": t_fixup,
    "ngpt": ngpt,
    "residual": residual,
    "siamese": siamese,
    "mhc": mhc,
    "huginn": huginn,
    "gpas": gpas,
    "prores": prores,
    "adaln_zero": adaln_zero,
    "highway": highway,
    "laurel": laurel,
    "geonorm": geonorm,
    "jpmhc": jpmhc,
    "mhc_v4": mhc_v4,
    "gated_residual": gated_residual,
    "frac_connections": frac_connections,
}
ALIASES: dict[str, str] = {"peri": "sandwich", "skipinit": "rezero"}
PLACEMENTS: dict[str, Callable[..., Wiring | Placement]] = {
    **WIRINGS,
    "keel": keel,
    "mix_ln": mix_ln,
    "normformer": normformer,
    "hybrid_norm": hybrid_norm,
    "hybrid_norm_star": hybrid_norm_star,
    "parallel": parallel,
    "b2t": b2t,
    "hyper_connections": hyper_connections,
    "dynamic_hyper_connections": dynamic_hyper_connections,
    "span_norm": span_norm,
    "nanochat": nanochat,
    "unet": unet,
    "value_residual": value_residual,
    "denseformer": denseformer,
    "muddformer": muddformer,
    "deep_cross_attention": deep_cross_attention,
    "attn_res": attn_res,
    "block_attn_res": block_attn_res,
    "mhc_lite": mhc_lite,
    "kromhc": kromhc,
}
PLACEMENTS |= {alias: PLACEMENTS[name] for alias, name in ALIASES.items()}


# What a wiring is about, in the order of a table or an atlas.
FAMILIES: dict[str, tuple[str, ...]] = {
    "norm placement": (
        *("pre", "post", "res_post", "sandwich", "none", "sub_ln", "keel", "huginn", "mix_ln", "span_norm"),
        *("normformer", "hybrid_norm", "hybrid_norm_star"),
    ),
    "residual scaling": (
        *("deepnorm", "admin", "rezero", "layerscale", "depth_scaled", "layernorm_scaling", "deepscale", "fixup"),
        *("t_fixup", "prores", "laurel"),
    ),
    "gates and updates": ("highway", "adaln_zero", "gpas", "ngpt", "geonorm"),
    "carried lanes": ("residual", "siamese", "parallel", "b2t", "nanochat", "unet", "value_residual"),
    "hyper-connections": (
        *("hyper_connections", "dynamic_hyper_connections", "frac_connections", "mhc", "mhc_v4", "mhc_lite", "kromhc"),
        *("jpmhc", "gated_residual"),
    ),
    "reads over depth": ("denseformer", "muddformer", "deep_cross_attention", "attn_res", "block_attn_res"),
}


def family(name: str) -> str:
    """Returns the family of a named wiring; "one's own" of any other."""
    for title, names in FAMILIES.items():
        if name in names:
            return title
    return "one's own"


def placement(name: str | Wiring | Placement, norm: Layer | None = None) -> Placement:
    """Returns the placement of that name with `norm` in its places; a wiring stands everywhere; a placement passes through."""
    if isinstance(name, str):
        known("wiring", name, PLACEMENTS)
        name = PLACEMENTS[name]() if norm is None else PLACEMENTS[name](norm)
    if isinstance(name, Placement):
        return name
    if not isinstance(name, Wiring):
        raise TypeError(f"a wiring is {shown(name)}: a name, a gf.Wiring or a gf.Placement is needed")
    return Placement(name.name, (Stage((name,)),))


def wirings(*own: Wiring | Placement) -> pd.DataFrame:
    """Returns the table of all named wirings, and of your `own`: name, equation, Jacobian of a sublayer or block, source, family.

    >>> wirings().loc["pre", "equation"]
    'x + F(N x)'
    """
    made = [make() for make in dict.fromkeys(PLACEMENTS.values())]
    rows = []
    for w in (*made, *own):
        said = {"equation": w.equation, "jacobian": w.jacobian, "source": w.source}
        rows.append({"name": w.name, **said, "family": family(w.name)})
    return pd.DataFrame(rows).set_index("name")
