"""`gradflow.bib`: entries for what a bundle used, and no others; and which works stand behind each wiring, rule and tool."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ...results.tree import mapping_of
from .. import tables
from .tools_cited import OF_TOOLS
from .wirings_cited import OF_WIRINGS

WORKS = OF_WIRINGS | OF_TOOLS
WIRINGS: dict[str, tuple[str, ...]] = {
    "pre": ("xiong2020", "radford2019"),
    "post": ("vaswani2017", "xiong2020"),
    "res_post": ("liu2022swin", "olmo2025"),
    "sandwich": ("ding2021", "kim2025", "gemma2024"),
    "none": ("he2016",),
    "sub_ln": ("wang2022foundation",),
    "deepnorm": ("wang2022deepnet",),
    "admin": ("liu2020",),
    "rezero": ("bachlechner2020", "de2020"),
    "layerscale": ("touvron2021",),
    "depth_scaled": ("noci2022", "yang2023"),
    "layernorm_scaling": ("sun2025",),
    "deepscale": ("kedia2024",),
    "fixup": ("zhang2019",),
    "t_fixup": ("huang2020",),
    "ngpt": ("loshchilov2024",),
    "residual": ("xie2023",),
    "siamese": ("li2026",),
    "mhc": ("xie2025", "zhu2024"),
    "keel": ("chen2026",),
    "mix_ln": ("li2025",),
    "normformer": ("shleifer2021",),
    "hybrid_norm": ("zhuo2025",),
    "hybrid_norm_star": ("zhuo2025",),
    "parallel": ("wang2021", "black2022", "chowdhery2022"),
    "b2t": ("takase2023",),
    "hyper_connections": ("zhu2024",),
    "dynamic_hyper_connections": ("zhu2024",),
    "huginn": ("geiping2025",),
    "gpas": ("chen2025gpas",),
    "prores": ("chen2026prores",),
    "adaln_zero": ("peebles2023",),
    "highway": ("srivastava2015",),
    "laurel": ("menghani2025",),
    "geonorm": ("zheng2026",),
    "span_norm": ("wang2026",),
    "nanochat": ("karpathy2025", "jordan2024speedrun"),
    "unet": ("jordan2024speedrun",),
    "value_residual": ("zhou2024",),
    "denseformer": ("pagliardini2024",),
    "muddformer": ("xiao2025",),
    "deep_cross_attention": ("heddes2025",),
    "attn_res": ("kimi2026",),
    "block_attn_res": ("kimi2026",),
    "mhc_lite": ("yang2026",),
    "kromhc": ("zhou2026",),
    "jpmhc": ("sengupta2026",),
    "mhc_v4": ("deepseek2026", "xie2025"),
    "gated_residual": ("qwen2026",),
    "frac_connections": ("zhu2025frac",),
}
OPTIMIZERS = {
    "Adam": ("kingma2015",),
    "CompleteP": ("dey2025", "yang2023", "kingma2015"),
    "Lion": ("chen2023",),
    "RMSProp": ("tieleman2012",),
    "Muon": ("jordan2024", "kingma2015"),
}
# By the name of the type, as a model's description writes it.
INITIALIZATIONS = {
    "FanIn": ("lecun1998",),
    "Xavier": ("glorot2010",),
    "WidthScaled": ("devlin2019",),
    "Normal": ("devlin2019",),
    "OfDepth": ("radford2019",),
}
DATA = {"pydoc_data.topics": ("python",)}
TOOLS = {"gradflow": ("gradflow",), "JAX": ("jax", "flax", "optax"), "xarray and Matplotlib": ("xarray", "matplotlib")}
# By a quantity that one of the models has.
READ = {
    "jacobian_gain": ("spectra", ("matfree",)),
    "log_volume": ("spectra", ("matfree",)),
    "attention_first_token": ("attention sinks", ("gu2025",)),
    "attention_largest_logit": ("largest logits", ("kimi2025",)),
    "massive_activation": ("massive activations", ("sun2024",)),
    "block_removal": ("layer removal", ("gromov2024", "he2024")),
}


def cited(run) -> dict[str, tuple[str, ...]]:
    """Returns the keys of the works behind all that a run used, `{what: keys}`, in the order a reader asks for them."""
    found: dict[str, tuple[str, ...]] = {}
    texts = []
    for node in tables.nodes(run).values():
        description = json.loads(node.attrs.get("description", "{}"))
        texts.append(str(description.get("texts", {}).get("initialization", "")))
        for wiring in description.get("wirings", []):
            keys = WIRINGS.get(wiring["name"], ())
            if keys:
                found[f"wiring {wiring['name']}"] = keys
    found |= _training(mapping_of(run, "recipe"))
    for name, keys in INITIALIZATIONS.items():
        if any(name in text for text in texts):
            found["initialization"] = (*found.get("initialization", ()), *keys)
    text = mapping_of(run, "data").get("name")
    if text in DATA:
        found["text"] = DATA[text]
    for quantity, (what, keys) in READ.items():
        if any(quantity in node for node in tables.nodes(run).values()):
            found[what] = keys
    return {what: tuple(dict.fromkeys(keys)) for what, keys in (found | TOOLS).items()}


def _training(recipe: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns the works behind an optimizer and clipping."""
    optimizer = recipe.get("optimizer")
    found = {}
    if isinstance(optimizer, Mapping) and optimizer.get("type") in OPTIMIZERS:
        keys = OPTIMIZERS[optimizer["type"]]
        if optimizer.get("weight_decay"):
            keys = (*keys, "loshchilov2019")
        found[f"optimizer {optimizer['type']}"] = keys
    if recipe.get("clip"):
        found["clipping"] = ("pascanu2013",)
    return found


def document(keys: Iterable[str], version: str) -> str:
    """Returns `gradflow.bib` with these entries, sorted; `version` is that of gradflow."""
    entries = []
    for key in sorted(set(keys)):
        entries.append(_gradflow(version) if key == "gradflow" else WORKS[key].entry(key))
    return "\n\n".join(entries) + "\n"


def _gradflow(version: str) -> str:
    """Returns the entry of this package, as CITATION.cff has it."""
    return (
        "@misc{gradflow,\n"
        "  author       = {{The gradflow developers}},\n"
        "  title        = {{gradflow: how gradients travel through deep residual stacks}},\n"
        f"  note         = {{version {version}}},\n"
        "  year         = {2026},\n"
        "}"
    )
