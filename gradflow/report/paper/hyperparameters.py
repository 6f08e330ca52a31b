"""`hyperparameters.tex` and the same as plain rows: what every value of a run was in the end, what it took, and on what.

Values are the resolved ones, as results carry them: nothing is left to a default of some version.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ...results.resources import total
from ...results.tree import mapping_of, settings
from .. import tables
from ..tables import nonfinite
from ..text import captions
from .formulas import equation, typeset
from .latex import breakable

Rows = dict[str, str]
TRAINING = {
    "lr": "learning rate",
    "warmup": "steps of warm-up",
    "schedule": "schedule after it",
    "clip": "norm of the whole gradient clipped at",
    "clip_parameter": "norm of each parameter's gradient clipped at",
    "dropout": "dropout",
    "attention_dropout": "dropout of attention's probabilities",
}
CONSTANTS = {"b1": "β₁", "b2": "β₂", "eps": "ε", "weight_decay": "weight decay"}
GIB = 2**30


def sections(trees: Mapping[str, Any], provenance: Mapping, environment: Mapping[str, Any]) -> dict[str, Rows]:
    """Returns `{section: {name: value}}`; `trees` are those of the results by name, the run first.

    `environment` has the number of runs that were begun and never finished, as `unfinished`.
    """
    run = next(iter(trees.values()))
    found = {
        "Model": _model(run),
        "Data": _data(run),
        "Training": _training(run),
        "Runs": _runs(run, environment.get("unfinished", 0)),
        "Cost": cost(trees),
        "Hardware": hardware(provenance),
        "Software": {str(name): str(version) for name, version in provenance.get("versions", {}).items()},
    }
    if "gradflow" in provenance:
        found["Software"]["gradflow"] = str(provenance["gradflow"])
    return {title: rows for title, rows in found.items() if rows}


def document(found: Mapping[str, Rows]) -> str:
    """Returns the table in LaTeX, as wide as the text around it."""
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}\emergencystretch=2em",
        r"\caption{Every value of the runs, what they took, and on what.}\label{tab:gf-hyperparameters}\par\smallskip",
        r"\begin{tabularx}{\linewidth}{@{}>{\raggedright\arraybackslash}p{0.3\linewidth}"
        r">{\raggedright\arraybackslash}X@{}}",
        r"\toprule",
    ]
    for title, rows in found.items():
        if title != next(iter(found)):
            lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{2}}{{@{{}}l}}{{\textit{{{title}}}}} \\")
        for name, value in rows.items():
            shown = breakable(typeset(value))
            if name.startswith("wiring "):
                shown = equation(value)
            lines.append(rf"{typeset(name)} & {shown} \\")
    lines += [r"\bottomrule", r"\end{tabularx}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def plainly(text: str) -> str:
    """Returns a value as a reader writes it, not as its constructor is called.

    >>> plainly("WidthScaled(sigma=0.02, at_width=768)"), plainly("Identity()")
    ('WidthScaled (sigma 0.02, at width 768)', 'Identity')
    """
    named = re.sub(r"(\w+)=", _spaced, text)
    return re.sub(r"(\w)\(", r"\1 (", named.replace("()", "").replace("None", "none"))


def _spaced(match: re.Match) -> str:
    return match[1].replace("_", " ") + " "


def _model(run) -> Rows:
    """Returns the wirings with their equations, sizes, and what all models share."""
    rows: Rows = {}
    for name, node in tables.nodes(run).items():
        description = json.loads(node.attrs.get("description", "{}"))
        title = f"wiring {name}"
        for one in description.get("wirings", []):
            rows[title] = one["equation"]
            title = f"{title}, then"
    conditions = captions.setting(run)
    for name in ("stack", "program", "attention", "feed-forward", "norm", "initialization", "embedding", "precision"):
        if name in conditions:
            rows[name] = plainly(conditions[name])
    return rows


def _data(run) -> Rows:
    """Returns what is recorded of the data, and the tokens of all updates of one seed."""
    recorded, data = settings(run), mapping_of(run, "data")
    rows: Rows = {}
    for name, value in data.items():
        if isinstance(value, list):
            value = "; ".join(map(str, value)) or "none"
        if not isinstance(value, dict):
            rows[name.replace("_", " ")] = str(value)
    if "steps" in recorded and "context" in data:
        tokens = int(recorded["steps"]) * int(data["context"]) * int(data["batch"])
        rows["tokens in training, each seed"] = str(tokens)
    if "batch_sha256" in recorded:
        rows["batch sha256"] = str(recorded["batch_sha256"])
    return rows


def _training(run) -> Rows:
    """Returns the optimizer with its constants, the recipe, the steps, and what was recorded when."""
    recorded = settings(run)
    recipe = recorded.get("recipe")
    rows: Rows = {}
    if isinstance(recipe, dict):
        rows |= _optimizer(recipe["optimizer"])
        for name, words in TRAINING.items():
            rows[words] = _plain(recipe.get(name) or "none")
    if "steps" in recorded:
        rows["updates"] = _plain(recorded["steps"])
        rows["recorded after updates"] = ", ".join(map(str, tables.steps_of(run)))
    readings = recorded.get("readings")
    if isinstance(readings, list):
        rows["readings"] = "; ".join(map(_reading, readings))
    if "key" in recorded:
        rows["key of all draws"] = str(recorded["key"])
    if "batches" in recorded:
        rows["batches"] = str(recorded["batches"])
    return rows


def _optimizer(optimizer) -> Rows:
    """Returns the optimizer's name and constants; of one that is no value, that it is an optax transformation."""
    if not isinstance(optimizer, dict):
        return {"optimizer": "an optax transformation"}
    rows = {"optimizer": str(optimizer["type"])}
    for name, value in optimizer.items():
        if name != "type":
            rows[CONSTANTS.get(name, name.replace("_", " "))] = _plain(value)
    return rows


def _reading(entry) -> str:
    """Returns the name of a reading, with its steps where it is taken at some alone."""
    if not isinstance(entry, dict):
        return str(entry)
    return f"{', '.join(entry['readings'])} at {', '.join(map(str, entry['steps']))}"


def _plain(value) -> str:
    """Returns a number or a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _runs(run, unfinished: int) -> Rows:
    """Returns how many runs there were, one a model and seed; finished ones are all, and those that diverged are counted."""
    members = tables.nodes(run)
    seeds = sum(node.sizes.get("seed", 1) for node in members.values())
    diverged = sum(len(nonfinite.seeds(node)) for node in members.values() if "stream_gradient" in node)
    per_model = max((node.sizes.get("seed", 1) for node in members.values()), default=0)
    return {
        "models": str(len(members)),
        "seeds of each": str(per_model),
        "runs started and finished": str(seeds),
        "of these diverged": str(diverged),
        "attempts that were interrupted before": str(unfinished),
    }


def cost(trees: Mapping[str, Any]) -> Rows:
    """Returns times and memory, summed over the trees that say them."""
    parts = []
    for tree in trees.values():
        parts.append(mapping_of(tree, "provenance").get("resources", {}))
    taken = total(parts)
    if not taken:
        return {}
    rows = {
        "wall time": f"{taken['wall_seconds'] / 60:.1f} min",
        "processor time": f"{taken['cpu_seconds'] / 60:.1f} min",
    }
    if taken["peak_memory_bytes"]:
        rows["peak memory"] = f"{taken['peak_memory_bytes'] / GIB:.2f} GiB"
    return rows


def hardware(provenance: Mapping) -> Rows:
    """Returns the machine, as far as it is recorded."""
    rows: Rows = {}
    for name in ("processor", "cores", "device", "platform"):
        if provenance.get(name):
            rows[name] = str(provenance[name])
    return rows
