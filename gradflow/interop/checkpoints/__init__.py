"""Trained weights: a folder with config.json and safetensors, as a model and its parameters for every instrument.

Every parameter comes from one tensor, and every tensor goes somewhere: what is unknown, missing or misshaped is told all at
once. Needs the extra `hf`. Bottom up: files, sources, layouts, configs, families, matching.
"""

import dataclasses
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp

from ...model.ends import Readout
from ...model.zoo.deepseek import DeepSeek
from ...results.arguments import suggestions
from .configs import Config
from .families import FAMILIES
from .files import json_of, tensors
from .matching import Match, leaves, listed


def checkpoint(folder: str | Path, *, readout: Readout | None = None, precision: str | None = None):
    """`(model, params)` of a trained model: a folder with config.json and safetensors, in the layout of Hugging Face.

    Parameters
    ----------
    folder : with `model.safetensors`, or several files and their index; its `model_type` is one of `FAMILIES`
    readout : what stands in for the head of the files, such as `Readout()`, the token table, for a BERT saved without one
    precision : as of a `Transformer`; "float64" widens the parameters, which otherwise are float32

    Cost: the files are mapped and read one tensor at a time, a parameter is there twice while it is handed over. In all less
    than three times the size of files with four bytes a number, four times with two.

    Errors: ValueError for what is not such a folder, for a value of the configuration that is not supported, and one that lists
    all tensors that are unknown, missing, misshaped, or not the copies that they should be. What is left aside, tensors of
    other heads and values of the configuration that are not understood, is told in a warning.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: one with config.json and safetensors is expected")
    config, found = Config(json_of(folder / "config.json")), tensors(folder)
    own, layout = described(config, len(found))
    model = own.model(precision)
    model = model if readout is None else dataclasses.replace(model, readout=readout)
    match = Match(layout, leaves(model.shapes), found, replaced=readout is not None)
    if problems := match.problems():
        raise ValueError(f"{folder} is not the {config.get('model_type')} that it describes:\n{listed(problems)}")
    aside = config.unknown() + match.aside()
    if aside:
        warnings.warn(f"{folder}: left aside: {', '.join(aside)[:500]}", stacklevel=2)
    dtype = jnp.float64 if precision == "float64" else jnp.float32
    arrays = [jnp.asarray(match.array(leaf, dtype)) for leaf in match.leaves]
    return model, jax.tree.unflatten(jax.tree.structure(model.shapes), arrays)


def described(config: Config, tensors: int):
    """The architecture that a configuration describes, and the layout of its files."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"config.json: no model_type {str(kind)[:60]!r}: {suggestions(str(kind)[:60], FAMILIES)}")
    config.only(quantization_config=None)
    own, layout = FAMILIES[kind](config)
    counts = {"blocks": own.depth, "experts": own.router.experts if isinstance(own, DeepSeek) else 0}
    for what, count in counts.items():
        if count > tensors:
            raise ValueError(f"config.json: {count} {what}, but the files have {tensors} tensors in all")
    return own, layout
