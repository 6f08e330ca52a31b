"""Captions: what a figure shows and under which conditions, from the provenance its data carries.

Every confound of a gradient profile is named: probe, mask, context, batch and loss reduction, initialization and the rms
of the embedding, number of seeds and kind of band, what was not finite, precision.
"""

import json
from collections.abc import Iterator, Mapping

import numpy as np

from ...results.agreement import squared
from ...results.quantities import QUANTITIES
from ...results.tree import nodes, settings
from .. import tables
from ..tables import nonfinite

LOSS_PROBE = "probe: the loss's own gradient"
BANDS = "Lines: means over seeds (geometric for positive quantities); bands: 95% t-intervals."
LINES = "Lines: means over seeds (geometric for positive quantities)."
ALONE = "Lines: one seed, which has no interval."
COMPARISON = (
    "Wirings side by side. (a) Stream gradient relative to the readout, at steps of training; (b) gradient of the last "
    "feed-forward output matrix at initialization against the number of blocks; (c) totals of the budget: log-gains of the "
    "norms, of the forks (skip plus branch), and both; (d) token cosine at the top of the stack, and loss"
)


def theory(measured, predicted, quantity: str) -> str:
    """What is drawn where theory lies over a measurement, what it assumes, its Monte Carlo error, and how the two differ."""
    average = "root mean squares" if squared(quantity) else "means"
    lead = f"Lines: {average} over seeds at initialization; bands: 95% t-intervals"
    if nonfinite.alone(nodes(measured)):
        lead = "Lines: one seed at initialization, which has no interval"
    differ = tables.context_differences(measured, predicted)
    told = f" Not alike: {differ}." if differ else ""
    return f"{lead}; dashed: theory, {assumed(predicted, quantity)}{told}"


def assumed(predicted, quantity: str) -> str:
    """What a prediction assumes, how many heads it drew, and the Monte Carlo error of a quantity at its worst place."""
    members = nodes(predicted)
    told = settings(next(iter(members.values()))).get("theory", {})
    errors = [node[f"{quantity}_sem"] / abs(node[quantity]) for node in members.values()]
    finite = np.concatenate([error.values[np.isfinite(error.values)].ravel() for error in errors])
    worst = finite.max(initial=0.0)
    heads = told.get("heads drawn")
    drawn = f"; {heads} attention heads drawn a sublayer, Monte Carlo error at most {worst:.1%}" if worst > 0 else ""
    return f"which assumes {'; '.join(told.get('assumptions', ['what is not recorded']))}{drawn}."


def setting(tree) -> dict[str, str]:
    """The conditions of a measurement as `{what: words}`, in the order a reader asks for them."""
    members = nodes(tree)
    first = next(iter(members.values()))
    conditions = _shapes(
        [json.loads(node.attrs["configuration"]) for node in members.values() if "configuration" in node.attrs]
    )
    root = settings(first)
    if root.get("weights") == "given":
        conditions |= {"initialization": "weights as given", "embedding": "as given, kept apart from the stack"}
    conditions |= _data(root.get("data", {}))
    if "recipe" in root and "recipes" not in root:  # a tree of several says which is which itself
        conditions["training"] = _training(root["recipe"])
    if "seed" in first.coords:
        conditions["seeds"] = f"{first['seed'].size}, batches {root.get('batches', 'as given')}"
    if lost := nonfinite.short(members):
        conditions["not finite"] = f"{lost}, left out of the means"
    kinds = [str(values.dtype) for values in first.data_vars.values() if values.dtype.kind == "f"]
    if kinds:
        conditions["precision"] = kinds[0]
    return conditions


def _data(data: Mapping) -> dict[str, str]:
    """The words for what was read: a text and how it was cut, or the shapes of a batch."""
    if "context" in data:
        words = [f"{data['name']}, context {data['context']}, batch {data['batch']}", *data.get("notes", ())]
        return {"data": ", ".join(words), "loss": f"cross-entropy, {data['reduction']}"}
    if "shapes" in data:
        return {"data": f"a batch as given, {', '.join(_arrays(data['shapes']))}"}
    return {}


def _arrays(shapes: Mapping, prefix: str = "") -> Iterator[str]:
    """`inputs 2 × 6` of every array in nested mappings of shapes."""
    for name, shape in shapes.items():
        if isinstance(shape, Mapping):
            yield from _arrays(shape, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} {' × '.join(map(str, shape)) or 'a number'}"


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


def _stacked(model: dict) -> dict | None:
    """The configuration of one stack and its ends: a Transformer's, or that of a side of an encoder and decoder."""
    if "whole" in model:
        return {**model["whole"], "stack": model["whole"][f"{model['type'].lower()}_stack"]}
    return model if model.get("type") == "Transformer" else None


def _shapes(models: list[dict]) -> dict[str, str]:
    """The words for the configurations of models: what they share is said once, and of depths and widths each."""
    sizes: dict[str, tuple[list[int], list[int]]] = {}
    found: dict[str, list[str]] = {}
    for model in filter(None, map(_stacked, models)):
        segments = model["stack"]["segments"]
        subs = [sub for segment in segments for sub in segment["block"]]
        blocks, widths = sizes.setdefault(", ".join(dict.fromkeys(sub["kind"] for sub in subs)), ([], []))
        blocks.append(sum(segment["repeats"] for segment in segments))
        widths.append(model["width"])
        for what, words in _shape(model, subs).items():
            found.setdefault(what, []).append(words)
    if not sizes:
        return {}
    stacks = [
        f"{_listed(blocks)} block{'' if set(blocks) == {1} else 's'} of {kinds}; width {_listed(widths)}"
        for kinds, (blocks, widths) in sizes.items()
    ]
    return {"stack": " / ".join(stacks), **{what: " / ".join(dict.fromkeys(words)) for what, words in found.items()}}


def _listed(numbers) -> str:
    """`6, 12 and 24`, each once and in order."""
    words = list(map(str, sorted(set(numbers))))
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shape(model: dict, subs: list[dict]) -> dict[str, str]:
    """The words for one Transformer's configuration and its sublayers, without its size."""
    branches = [sub["branch"] for sub in subs]
    attention = next((branch for branch in branches if {"causal", "heads"} <= set(branch)), None)
    hidden = next((branch for branch in branches if {"activation", "ratio"} <= set(branch)), None)
    words = {}
    if attention:
        mask = "causal" if attention["causal"] else "bidirectional"
        words["attention"] = f"{attention['heads']} heads, {mask} mask"
    if hidden:
        words["feed-forward"] = f"{hidden['type']}, {hidden['activation']}, hidden width {hidden['ratio']:.3g} d"
    words["norm"] = ", ".join(dict.fromkeys(_norms(subs))) or "none"
    words["initialization"] = _constructor(branches[0].get("weights", {}))
    embedding = model["embedding"]
    rms = f"rms {embedding['rms']:g}" if "rms" in embedding else _constructor(embedding)
    words["embedding"] = f"{rms}, kept apart from the stack"
    return words


# Layers that stand where a norm may stand and are none; all others there are called by their names.
_GAINS = ("Zero", "Shift", "Gain", "ScalarGain", "FeatureGain", "Complement")
_NO_NORM = ("Identity", *_GAINS, "Lanes", "LaneGains", "OfTokens", "DynamicGains", "ManifoldGains")


def _norms(data, of_layer: bool = False) -> Iterator[str]:
    """What stands in a norm's place, anywhere in the data of sublayers: in a wiring, lane by lane, in a branch."""
    if isinstance(data, list):
        pairs = [item if _named(item) else [None, item] for item in data]
    elif isinstance(data, dict):
        pairs = list(data.items())
    else:
        return
    if of_layer and isinstance(data, dict) and not {"layers", "norm"} & set(data):
        kind = data.get("type", data.get("unregistered"))
        if kind is not None and kind not in _NO_NORM:
            yield str(kind)
        return
    for name, item in pairs:
        inside = name in ("layers", "norm") or (name is None and of_layer)
        place = name is not None and (name.startswith("norm") or name.endswith("_norm"))
        yield from _norms(item, inside or place or name in ("read", "enter", "leave", "inner"))


def _named(item) -> bool:
    """Whether it is a pair of a place within a branch and the layer there."""
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _constructor(data) -> str:
    """A registered value as its constructor would be written: `FanIn(gain=1.0)`."""
    if isinstance(data, list):
        return "(" + ", ".join(map(_constructor, data)) + ")"
    if not isinstance(data, dict) or "type" not in data:
        return f"{data:.4g}" if isinstance(data, float) else str(data)
    return f"{data['type']}({', '.join(f'{k}={_constructor(v)}' for k, v in data.items() if k != 'type')})"


def caption(tree, lead: str, *quantities: str, probe: str = LOSS_PROBE, lines: str = BANDS, alone: str = ALONE) -> str:
    """One paragraph: `lead`, the formulas of the quantities, the probe, all the conditions, what is drawn of seeds.

    `lines` says that; `alone` in its place where no model has two seeds that are finite.
    """
    rows = [QUANTITIES[name] for name in quantities if name in QUANTITIES]
    formulas = "; ".join(f"{row.long_name}: {row.formula}" for row in rows)
    conditions = setting(tree)
    shown = "; ".join(f"{what}: {words}" for what, words in conditions.items())
    sentences = [f"{lead}.", f"{formulas}; {probe}." if formulas else f"{probe[:1].upper()}{probe[1:]}."]
    sentences += [f"{shown[:1].upper()}{shown[1:]}."] if shown else []
    drawn = alone if nonfinite.alone(nodes(tree)) else lines
    told = " ".join([*sentences, drawn] if "seeds" in conditions and lines else sentences)
    return " ".join(told.split())


def attached(drawn, tree, lead: str, *quantities: str, **told: str):
    """`drawn`, an Axes or a Figure, with the caption as its label."""
    drawn.set_label(caption(tree, lead, *quantities, **told))
    return drawn


def short(tree) -> str:
    """The line under a figure's title: seeds and precision."""
    conditions = setting(tree)
    seeds = conditions.get("seeds", "").split(",")[0]
    unit = "seed" if seeds == "1" else "seeds"
    counted = f"{seeds} {unit}" if seeds else ""
    return ", ".join(words for words in (counted, conditions.get("precision", "")) if words)


def intervals(tree) -> str:
    """What intervals there are: `95% over seeds`, or none."""
    return "no intervals" if nonfinite.alone(nodes(tree)) else "95% over seeds"
