"""Captions: what a figure shows and under which conditions, from the provenance its data carries.

Every confound of a gradient profile is named: probe, mask, context, batch and loss reduction, initialization and the rms
of the embedding, number of seeds and kind of band, precision.
"""

import json

from ..results.agreement import squared
from ..results.quantities import QUANTITIES
from ..results.tree import settings
from .tables import nodes

LOSS_PROBE = "probe: the loss's own gradient"
BANDS = "Lines: means over seeds (geometric for positive quantities); bands: 95% t-intervals."
LINES = "Lines: means over seeds (geometric for positive quantities)."
COMPARISON = (
    "Wirings side by side. (a) Stream gradient relative to the readout, at steps of training; (b) gradient of the last "
    "feed-forward output matrix at initialization against the number of blocks; (c) totals of the budget: log-gains of the "
    "norms, of the forks (skip plus branch), and both; (d) token cosine at the top of the stack, and loss"
)


def theory(predicted, quantity: str) -> str:
    """What is drawn where theory lies over a measurement, what it assumes, and its Monte Carlo error."""
    average = "root mean squares" if squared(quantity) else "means"
    lead = f"Lines: {average} over seeds at initialization; bands: 95% t-intervals; dashed: theory"
    return f"{lead}, {assumed(predicted, quantity)}"


def assumed(predicted, quantity: str) -> str:
    """What a prediction assumes, how many heads it drew, and the Monte Carlo error of a quantity at its worst place."""
    told = settings(predicted).get("theory", {})
    errors = [float((node[f"{quantity}_sem"] / abs(node[quantity])).max()) for node in predicted.leaves]
    drawn = f"; {told['heads drawn']} attention heads drawn a sublayer, Monte Carlo error at most {max(errors):.1%}"
    return f"which assumes {'; '.join(told.get('assumptions', []))}{drawn if max(errors) > 0 else ''}."


def setting(tree) -> dict[str, str]:
    """The conditions of a measurement as `{what: words}`, in the order a reader asks for them."""
    members = nodes(tree)
    members = {name: next(iter(nodes(node).values())) for name, node in members.items()}  # a sweep has a level more
    conditions: dict[str, str] = {}
    models = [json.loads(node.attrs["configuration"]) for node in members.values() if "configuration" in node.attrs]
    for shape in map(_shape, filter(None, map(_stacked, models))):
        conditions = {key: _joined(conditions.get(key, words), words) for key, words in shape.items()}
    root = settings(tree)
    if root.get("weights") == "given":
        conditions |= {"initialization": "weights as given", "embedding": "as given, kept apart from the stack"}
    data = root.get("data", {})
    if "context" in data:
        conditions["data"] = f"{data['name']}, context {data['context']}, batch {data['batch']}"
        conditions["loss"] = f"cross-entropy, {data['reduction']}"
    if "recipe" in root and "recipes" not in root:  # a tree of several says which is which itself
        conditions["training"] = _training(root["recipe"])
    first = next(iter(members.values()))
    if "seed" in first.coords:
        conditions["seeds"] = f"{first['seed'].size}, batches {root.get('batches', 'as given')}"
    kinds = [str(values.dtype) for values in first.data_vars.values() if values.dtype.kind == "f"]
    if kinds:
        conditions["precision"] = kinds[0]
    return conditions


def _training(recipe: dict) -> str:
    """The words for a recipe: what updates, how fast, and what is done to the gradient."""
    rule = recipe["optimizer"]
    if isinstance(rule, list):
        return "an optax transformation"
    limits = {"clip": "norm clipped at", "clip_parameter": "each parameter's norm clipped at", "dropout": "dropout"}
    words = [_constructor(rule), f"learning rate {recipe['lr']:g}"]
    words += [
        f"{recipe['warmup']} steps of warm-up" if recipe["warmup"] else "no warm-up",
        f"{recipe['schedule']} schedule",
    ]
    words += [f"{what} {recipe[name]:g}" for name, what in limits.items() if recipe[name]]
    return ", ".join(words if recipe["clip"] or recipe["clip_parameter"] else [*words, "no clipping"])


def _joined(known: str, words: str) -> str:
    return known if words in known.split(" / ") else f"{known} / {words}"


def _stacked(model: dict) -> dict | None:
    """The configuration of one stack and its ends: a Transformer's, or that of a side of an encoder and decoder."""
    if "whole" in model:
        return {**model["whole"], "stack": model["whole"][f"{model['type'].lower()}_stack"]}
    return model if model.get("type") == "Transformer" else None


def _shape(model: dict) -> dict[str, str]:
    """The words for one Transformer's configuration."""
    subs = [sub for segment in model["stack"] for sub in segment["block"]]
    blocks = sum(segment["repeats"] for segment in model["stack"])
    kinds = ", ".join(dict.fromkeys(sub["kind"] for sub in subs))
    attention = next((sub["branch"] for sub in subs if "causal" in sub["branch"]), None)
    hidden = next((sub["branch"] for sub in subs if "activation" in sub["branch"]), None)
    norms = [part["type"] for part in subs[0]["wiring"].values() if isinstance(part, dict) and "Norm" in part["type"]]
    words = {"stack": f"{blocks} blocks of {kinds}; width {model['width']}"}
    if attention:
        mask = "causal" if attention["causal"] else "bidirectional"
        words["attention"] = f"{attention['heads']} heads, {mask} mask"
    if hidden:
        words["feed-forward"] = f"{hidden['type']}, {hidden['activation']}, hidden width {hidden['ratio']:.3g} d"
    words["norm"] = norms[0] if norms else "none"
    words["initialization"] = _constructor(subs[0]["branch"].get("weights", {}))
    words["embedding"] = f"rms {model['embedding']['rms']:g}, kept apart from the stack"
    return words


def _constructor(data) -> str:
    """A registered value as its constructor would be written: `FanIn(gain=1.0)`."""
    if isinstance(data, list):
        return "(" + ", ".join(map(_constructor, data)) + ")"
    if not isinstance(data, dict) or "type" not in data:
        return f"{data:.4g}" if isinstance(data, float) else str(data)
    return f"{data['type']}({', '.join(f'{k}={_constructor(v)}' for k, v in data.items() if k != 'type')})"


def caption(tree, lead: str, *quantities: str, probe: str = LOSS_PROBE, lines: str = BANDS) -> str:
    """One paragraph: `lead`, the formulas of the quantities, the probe, all the conditions, what is drawn of seeds."""
    rows = [QUANTITIES[name] for name in quantities if name in QUANTITIES]
    formulas = "; ".join(f"{row.long_name}: {row.formula}" for row in rows)
    conditions = setting(tree)
    shown = "; ".join(f"{what}: {words}" for what, words in conditions.items())
    sentences = [f"{lead}.", f"{formulas}; {probe}.", f"{shown[:1].upper()}{shown[1:]}."]
    return " ".join([*sentences, lines] if "seeds" in conditions and lines else sentences)


def attached(drawn, tree, lead: str, *quantities: str, **told: str):
    """`drawn`, an Axes or a Figure, with the caption as its label."""
    drawn.set_label(caption(tree, lead, *quantities, **told))
    return drawn


def short(tree) -> str:
    """The line under a figure's title: seeds and precision."""
    conditions = setting(tree)
    seeds = conditions.get("seeds", "").split(",")[0]
    return ", ".join(words for words in (f"{seeds} seeds" if seeds else "", conditions.get("precision", "")) if words)
