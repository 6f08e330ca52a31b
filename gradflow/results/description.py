"""One description of a model, from its configuration: wirings, kinds of sublayers, sizes, attention, norms, initialization.

It is made when results are labelled and stored with them; captions, the command line and the atlas print it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

# Layers that may stand in a norm's place and are none; all others there are called by their names.
_GAINS = ("Zero", "Shift", "Gain", "ScalarGain", "FeatureGain", "Complement")
PARTIAL = re.compile(r"functools\.partial\(<function (?:\S*\.)?(\w+)")
_GATES = ("Shrunk", "Preserved", "StepGain", "ConditionGain", "Gate", "ShutGate", "LowRank", "Beside", "Geodesic")
_LANES = ("Lanes", "LaneGains", "OfTokens", "DynamicGains", "ManifoldGains")
_SETS = ("Opened", "Spread", "Permuted", "Kronecker", "Rotated", "Balanced", "Cut", "Merged")
_HISTORY = ("PickLane", "Together", "Kept", "Appended", "Weighed", "Joined", "Replaced", "DenseRead", "Way", "Ways")
GATED_ATTENTION = ("GatedAttention", "IndexedAttention")
_NO_NORM = ("Identity", *_GAINS, *_GATES, *_LANES, *_SETS, *_HISTORY)
_BOUNDS = ("on_gate", "on_up")  # places of what is no norm


def describe(configuration: Any, parameters: int | None = None) -> dict[str, Any]:
    """Returns the description of a model whose `configuration` is plain data (`configuration.encode`).

    `wirings` are the different wirings in order, each with its name, equation, jacobian and source; `sublayers` the kinds of
    sublayers of a block, `branches` the same with the type of each branch; `blocks`, `width` and `vocabulary` the sizes.
    `parameters` is how many there are, where that is known; not of a side, whose weights are those of both stacks.
    `texts` has the other properties as text: attention, feed-forward, norm, initialization, embedding.

    Of a program `program`, the name of its loss, and `parameters`. Empty for any other model that is no stack of residual
    sublayers, such as a function of the user.
    """
    loss = _loss(configuration)
    if loss is not None:
        return {"program": loss, "parameters": parameters}
    model = _stacked(configuration)
    if model is None:
        return {}
    if "whole" in configuration:
        parameters = None
    blocks = 0
    sublayers: list[dict] = []
    for segment in model["stack"]["segments"]:
        blocks += segment["repeats"]
        sublayers += segment["block"]
    return {
        "wirings": _wirings(sublayers),
        "sublayers": _joined(sublayer["kind"] for sublayer in sublayers),
        "branches": _joined(f"{sublayer['kind']} {_type(sublayer['branch'])}" for sublayer in sublayers),
        "blocks": blocks,
        "width": model["width"],
        "vocabulary": model["embedding"].get("vocabulary"),
        "parameters": parameters,
        "texts": _texts(model, sublayers),
    }


def _loss(configuration: Any) -> str | None:
    """Returns the name of a program's loss, of a `functools.partial` that of its function; None for any other model."""
    if not isinstance(configuration, dict) or configuration.get("type") != "Program":
        return None
    name = _type(configuration["loss_fn"])
    of_partial = PARTIAL.match(name)
    return of_partial[1] if of_partial else name


def _stacked(model: Any) -> dict | None:
    """Returns the configuration of one stack: a Transformer's, or that of a side of an encoder and decoder; else None."""
    if not isinstance(model, dict):
        return None
    if "whole" in model:
        whole = model["whole"]
        return {**whole, "stack": whole[f"{model['type'].lower()}_stack"]}
    if model.get("type") == "Transformer":
        return model
    return None


def _wirings(sublayers: list[dict]) -> list[dict[str, str]]:
    """Returns name, equation, Jacobian and source of every wiring, each once and in order."""
    wirings: list[dict[str, str]] = []
    for sublayer in sublayers:
        wiring = {name: sublayer["wiring"][name] for name in ("name", "equation", "jacobian", "source")}
        if wiring not in wirings:
            wirings.append(wiring)
    return wirings


def _type(data: dict) -> str:
    """Returns the type of an encoded value; of a function its name."""
    return str(data.get("type", data.get("unregistered")))


def _joined(texts: Iterable[str]) -> str:
    """Returns texts joined by commas, each once and in order."""
    return ", ".join(dict.fromkeys(texts))


def _texts(model: dict, sublayers: list[dict]) -> dict[str, str]:
    """Returns attention, feed-forward, norm, initialization and embedding as text."""
    texts = {}
    branch = _first_with(sublayers, "heads")
    if branch:
        texts["attention"] = attention(branch)
    branch = _first_with(sublayers, "activation", "ratio")
    if branch:
        texts["feed-forward"] = f"{activation(branch)}, hidden width {branch['ratio']:.3g} d"
    texts["norm"] = _joined(_norms(sublayers)) or "none"
    texts["initialization"] = constructor(sublayers[0]["branch"].get("weights", {}))
    embedding = model["embedding"]
    if "rms" in embedding:
        texts["embedding"] = f"rms {embedding['rms']:g}, kept apart from the stack"
    else:
        texts["embedding"] = f"{constructor(embedding)}, kept apart from the stack"
    return texts


def attention(branch: dict) -> str:
    """Returns what the fields of an encoded attention say: heads, keys, mask, positions, norms.

    >>> attention({"heads": 4, "kv_heads": 1, "causal": True, "window": 128})
    '4 heads, one key for all heads, causal mask, window 128'
    """
    heads = branch["heads"]
    parts = ["1 head" if heads == 1 else f"{heads} heads"]
    keys = 1 if "compression" in branch else branch.get("kv_heads") or heads
    if keys == 1 != heads:
        parts.append("one key for all heads")
    elif keys != heads:
        parts.append(f"{keys} keys")
    if "key_value_rank" in branch:
        parts.append(f"latent ({branch['key_value_rank']} features of keys and values)")
    parts.append("causal mask" if branch.get("causal", True) else "bidirectional mask")
    window = branch.get("window")
    if isinstance(window, dict):  # a number that depends on the block
        parts.append("banded in some blocks")
    elif window:
        parts.append(f"window {window}")
    if branch.get("compression"):
        parts.append(f"entries of {branch['compression']['size']} tokens")
    if branch.get("first"):
        parts.append(f"the first {branch['first']} in sight")
    if branch.get("sink") is not None:
        parts.append("sinks")
    if branch.get("rotary"):
        parts.append("rotary")
    norm = _type(branch.get("query_norm", {"type": "Identity"}))
    if norm == "Joint":
        parts.append("QK-norm of all heads")
    elif norm != "Identity":
        parts.append("QK-norm")
    if branch.get("type") in GATED_ATTENTION:
        parts.append("gated")
    if "index_heads" in branch:
        parts.append(f"{branch['blocks']} blocks of {branch['block']} tokens chosen by an indexer")
    if branch.get("softcap"):
        parts.append(f"scores capped at {branch['softcap']:g}")
    return ", ".join(parts)


def activation(branch: dict) -> str:
    """Returns the activation of an encoded feed-forward branch, and whether it is gated; the type of one that isn't ours.

    >>> activation({"type": "GatedFeedForward", "activation": "silu"})
    'gated silu'
    """
    if branch["type"] == "FeedForward":
        return branch["activation"]
    if branch["type"] == "GatedFeedForward":
        return f"gated {branch['activation']}"
    return f"{branch['type']}, {branch['activation']}"


def _first_with(sublayers: list[dict], *fields: str) -> dict | None:
    """Returns the first branch that has all these fields."""
    for sublayer in sublayers:
        branch = sublayer["branch"]
        if all(field in branch for field in fields):
            return branch
    return None


def _norms(data, of_layer: bool = False) -> Iterator[str]:
    """Yields what stands in a norm's place, anywhere in the data of sublayers: in a wiring, lane by lane, in a branch."""
    if not isinstance(data, dict | list):
        return
    if of_layer and isinstance(data, dict) and "layers" not in data and "norm" not in data:
        kind = _type(data)
        if kind != "None" and kind not in _NO_NORM:
            yield kind
        return
    for name, item in _entries(data):
        if name not in _BOUNDS:
            yield from _norms(item, _is_place_of_a_layer(name, of_layer))


def _entries(data: dict | list) -> Iterator[tuple]:
    """Yields `(name, item)`: of a dict its items, of a list the pairs of a place and a layer, or None and the item."""
    if isinstance(data, dict):
        yield from data.items()
        return
    for item in data:
        if isinstance(item, list) and len(item) == 2 and isinstance(item[0], str):
            yield item[0], item[1]
        else:
            yield None, item


def _is_place_of_a_layer(name, of_layer: bool) -> bool:
    """Returns whether a layer of that name may be a norm; an unnamed item is what its list is."""
    if name is None:
        return of_layer
    if name in ("layers", "norm", "read", "enter", "leave", "inner"):
        return True
    return name.startswith("norm") or name.endswith("_norm")


def constructor(data) -> str:
    """Returns a registered value as its constructor would be written: `FanIn(gain=1.0)`."""
    if isinstance(data, list):
        return "(" + ", ".join(map(constructor, data)) + ")"
    if isinstance(data, float):
        return f"{data:.4g}"
    if not isinstance(data, dict) or "type" not in data:
        return str(data)
    arguments = []
    for name, value in data.items():
        if name != "type":
            arguments.append(f"{name}={constructor(value)}")
    return f"{data['type']}({', '.join(arguments)})"
