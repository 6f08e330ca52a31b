"""Captions: what a figure shows and under which conditions, from the provenance its data carries.

Every confound of a gradient profile is named: probe, mask, context, batch and loss reduction, initialization and the rms
of the embedding, number of seeds and kind of band, what was not finite, precision.
"""

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np

from ...results.agreement import squared
from ...results.description import constructor
from ...results.quantities import QUANTITIES
from ...results.tree import nodes, settings
from .. import tables
from ..tables import nonfinite

LOSS_PROBE = "probe: the loss's own gradient"
FORWARD = "the forward pass alone"
BANDS = "Lines: means over seeds (geometric for positive quantities); bands: 95% t-intervals."
LINES = "Lines: means over seeds (geometric for positive quantities)."
ALONE = "Lines: one seed, which has no interval."
SIZE = re.compile(r"/?(depth|width)_\d+$")  # of a node of a sweep
COMPARISON = (
    "Wirings side by side. (a) Stream gradient relative to the readout, at steps of training; (b) gradient of the {output} "
    "matrix at initialization against the number of blocks; (c) totals of the budget: log-gains of the "
    "norms, of the forks (skip plus branch), and both; (d) token cosine at the top of the stack, and loss"
)


def theory(measured, predicted, quantity: str) -> str:
    """Returns the sentences on a theory over a measurement: the average, its assumptions, and how the two differ."""
    average = "root mean squares" if squared(quantity) else "means"
    lead = f"Lines: {average} over seeds at initialization; bands: 95% t-intervals"
    if nonfinite.alone(nodes(measured)):
        lead = "Lines: one seed at initialization, which has no interval"
    sentences = f"{lead}; dotted: theory, {assumed(predicted, quantity)}"
    differences = tables.context_differences(measured, predicted)
    if differences:
        sentences += f" Not alike: {differences}."
    return sentences


def assumed(predicted, quantity: str) -> str:
    """Returns what a prediction assumes, how many heads it drew, and the Monte Carlo error of a quantity at its worst place."""
    members = nodes(predicted)
    first = next(iter(members.values()))
    theory_settings = settings(first).get("theory", {})
    assumptions = "; ".join(theory_settings.get("assumptions", ["what is not recorded"]))
    worst = 0.0
    for node in members.values():
        errors = (node[f"{quantity}_sem"] / abs(node[quantity])).values
        worst = max(worst, errors[np.isfinite(errors)].max(initial=0.0))
    if worst == 0:
        return f"which assumes {assumptions}."
    heads = theory_settings.get("heads drawn")
    return (
        f"which assumes {assumptions}; {heads} attention heads drawn a sublayer, Monte Carlo error at most {worst:.1%}."
    )


def setting(tree) -> dict[str, str]:
    """Returns the conditions of a measurement as `{name: text}`, in the order a reader asks for them."""
    members = nodes(tree)
    first = next(iter(members.values()))
    recorded = settings(first)
    descriptions = []
    programs = {}
    for name, node in members.items():
        if "description" not in node.attrs:
            continue
        description = json.loads(node.attrs["description"])
        if "program" in description:
            programs[name] = description
        else:
            descriptions.append(description)
    conditions = _models(descriptions)
    if programs:
        conditions["program"] = _programs(programs)
    if recorded.get("weights") == "given":
        conditions["initialization"] = "weights as given"
        if len(programs) < len(members):
            conditions["embedding"] = "as given, kept apart from the stack"
    conditions |= _data(recorded.get("data", {}))
    if "loss" in conditions and programs:
        others = f"; otherwise {conditions['loss']}" if len(programs) < len(members) else ""
        conditions["loss"] = f"the program's own{others}"
    if "recipe" in recorded and "recipes" not in recorded:  # a tree of several recipes names them by their dimension
        conditions["training"] = _training(recorded["recipe"])
    if "seed" in first.coords:
        conditions["seeds"] = f"{first['seed'].size}, batches {recorded.get('batches', 'as given')}"
    if "logged" in recorded:
        conditions["record"] = _records(recorded["logged"], list(members))
        missing = nonfinite.gaps(members)
        return {**conditions, "not finite, or not logged": missing} if missing else conditions
    lost = nonfinite.short(members)
    if lost:
        conditions["not finite"] = f"{lost}, left out of the means"
    for values in first.data_vars.values():
        if values.dtype.kind == "f":
            conditions["precision"] = str(values.dtype)
            break
    return conditions


def _models(descriptions: list[dict]) -> dict[str, str]:
    """Returns the conditions on the models: their sizes, and each property that they share once."""
    if not descriptions:
        return {}
    blocks: dict[str, list[int]] = {}
    widths: dict[str, list[int]] = {}
    counts: dict[str, list[int]] = {}
    properties: dict[str, list[str]] = {}
    for model in descriptions:
        blocks.setdefault(model["sublayers"], []).append(model["blocks"])
        widths.setdefault(model["sublayers"], []).append(model["width"])
        if model.get("parameters"):
            counts.setdefault(model["sublayers"], []).append(model["parameters"])
        for name, text in model["texts"].items():
            properties.setdefault(name, []).append(text)
    stacks = []
    for sublayers, numbers in blocks.items():
        noun = "block" if set(numbers) == {1} else "blocks"
        stack = f"{_listed(numbers)} {noun} of {sublayers}; width {_listed(widths[sublayers])}"
        if sublayers in counts:
            stack += f"; {_extent(counts[sublayers])} parameters"
        stacks.append(stack)
    conditions = {"stack": " / ".join(stacks)}
    for name, texts in properties.items():
        conditions[name] = " / ".join(dict.fromkeys(texts))
    return conditions


def _programs(programs: Mapping[str, dict]) -> str:
    """Returns the losses of programs, with the numbers of their parameters, at all sizes of a sweep; each with its name."""
    counts: dict[tuple[str, str], list[int]] = {}
    for name, description in programs.items():
        of_all_sizes = counts.setdefault((SIZE.sub("", name), description["program"]), [])
        if description.get("parameters"):
            of_all_sizes.append(description["parameters"])
    texts = []
    for (name, loss), numbers in counts.items():
        text = f"{loss}, {_extent(numbers)} parameters" if numbers else loss
        texts.append(text if name == "model" else f"{name} ({text})")
    return " / ".join(texts)


def _listed(numbers: list[int]) -> str:
    """Returns `6, 12 and 24`, each once and sorted."""
    *others, last = map(str, sorted(set(numbers)))
    if not others:
        return last
    return f"{', '.join(others)} and {last}"


def _extent(numbers: list[int]) -> str:
    """Returns `124,439,808`, or where the numbers differ the smallest and the largest, `6,144 to 12,288`."""
    least, most = min(numbers), max(numbers)
    if least == most:
        return f"{most:,}"
    return f"{least:,} to {most:,}"


def _data(data: Mapping) -> dict[str, str]:
    """Returns the conditions on the data: a text and how it was cut, or the shapes of a batch."""
    if "context" in data:
        parts = [f"{data['name']}, context {data['context']}, batch {data['batch']}", *data.get("notes", ())]
        return {"data": ", ".join(parts), "loss": f"cross-entropy, {data['reduction']}"}
    if "shapes" in data:
        return {"data": f"a batch as given, {', '.join(_arrays(data['shapes']))}"}
    return {}


def _arrays(shapes: Mapping, prefix: str = "") -> Iterator[str]:
    """Yields `inputs 2 × 6` for every array in nested mappings of shapes."""
    for name, shape in shapes.items():
        if isinstance(shape, Mapping):
            yield from _arrays(shape, f"{prefix}{name}.")
            continue
        size = " × ".join(map(str, shape))
        yield f"{prefix}{name} {size or 'a number'}"


def _records(logged: Mapping[str, str], names: list[str]) -> str:
    """Returns where norms come from that other tools logged; of several models each by its name."""
    of_models = {name: text for name, text in logged.items() if name in names} or logged
    if len(of_models) == 1:
        return next(iter(of_models.values()))
    return "; ".join(f"{name}: {text}" for name, text in of_models.items())


def _training(recipe: dict) -> str:
    """Returns a recipe as text: the optimizer, the learning rate, and the limits on the gradient."""
    optimizer = recipe["optimizer"]
    if isinstance(optimizer, list):
        return "an optax transformation"
    parts = [constructor(optimizer), f"learning rate {recipe['lr']:g}"]
    if recipe["warmup"]:
        parts.append(f"{recipe['warmup']} steps of warm-up")
    else:
        parts.append("no warm-up")
    parts.append(f"{recipe['schedule']} schedule")
    if recipe["clip"]:
        parts.append(f"norm clipped at {recipe['clip']:g}")
    if recipe["clip_parameter"]:
        parts.append(f"each parameter's norm clipped at {recipe['clip_parameter']:g}")
    if recipe["dropout"]:
        parts.append(f"dropout {recipe['dropout']:g}")
    if recipe.get("attention_dropout"):
        parts.append(f"dropout {recipe['attention_dropout']:g} of attention's probabilities")
    if not recipe["clip"] and not recipe["clip_parameter"]:
        parts.append("no clipping")
    return ", ".join(parts)


def caption(tree, lead: str, *quantities: str, probe: str = LOSS_PROBE, lines: str = BANDS, alone: str = ALONE) -> str:
    """Returns one paragraph: `lead`, the formulas of the quantities, the probe, all the conditions, and what lines are of.

    `lines` is that last sentence; `alone` takes its place where no model has two seeds that are finite.
    """
    formulas = []
    for name in quantities:
        if name in QUANTITIES:
            formulas.append(f"{QUANTITIES[name].long_name}: {QUANTITIES[name].formula}")
    sentences = [f"{lead}."]
    if formulas:
        sentences.append(f"{'; '.join(formulas)}; {probe}.")
    else:
        sentences.append(f"{_capitalized(probe)}.")
    conditions = setting(tree)
    if conditions:
        sentences.append(sentence(conditions))
    if "seeds" in conditions and lines:
        sentences.append(alone if nonfinite.alone(nodes(tree)) else lines)
    return " ".join(" ".join(sentences).split())


def sentence(conditions: Mapping[str, str]) -> str:
    """Returns the conditions of a measurement as one sentence of a caption."""
    listed = "; ".join(f"{name}: {text}" for name, text in conditions.items())
    return " ".join(f"{_capitalized(listed)}.".split())


def _capitalized(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def attached(drawn, tree, lead: str, *quantities: str, **sentences: str):
    """Returns `drawn`, an Axes or a Figure, with the caption as its label, behind that of what was drawn there before."""
    before = drawn.get_label()
    text = caption(tree, lead, *quantities, **sentences)
    if before != text:
        drawn.set_label(f"{before} {text}".strip())
    return drawn


def short(tree) -> str:
    """Returns the line under a figure's title: seeds and precision."""
    conditions = setting(tree)
    parts = []
    if "seeds" in conditions:
        number = conditions["seeds"].split(",")[0]
        parts.append(f"{number} seed" if number == "1" else f"{number} seeds")
    if "precision" in conditions:
        parts.append(conditions["precision"])
    return ", ".join(parts)


def intervals(tree) -> str:
    """Returns which intervals there are: `95% over seeds`, or `no intervals`."""
    if nonfinite.alone(nodes(tree)):
        return "no intervals"
    return "95% over seeds"
