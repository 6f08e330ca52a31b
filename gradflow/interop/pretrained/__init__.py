"""Trained weights: a folder with config.json and safetensors, or a GGUF file, as a model and its parameters for every instrument.

Every parameter comes from one tensor, and every tensor goes somewhere: what is unknown, missing or misshaped is said all at
once. Needs the extra `hf`, or `gguf`. Bottom up: files, four_bits, gguf_files, gguf_tokenizer, licence, metadata, sources,
gpt_layouts, encoder_layouts, layouts, hybrid_layouts, configs, rotations, shared, encoders, encoder_decoders, gpts, decoders,
mixtures, deepseek_v4, hybrids, families, matching.
"""

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ...model.inputs.weights import shapes
from ...model.numerics import devices
from ...model.stacks.embedding_readout import Readout
from ...model.stacks.encoder_decoder import EncoderDecoder
from ...model.stacks.transformer import Transformer
from ...model.zoo.architecture import Architecture
from ...results.arguments import answering, of_class, shown, suggestions
from ...results.files import as_path, printable
from . import gguf_files, licence
from .configs import Config
from .families import FAMILIES, OF_TWO_SEQUENCES
from .files import Stored, json_of, plain, several, sums, tensors
from .four_bits import unpacked
from .matching import Match, leaves
from .sources import Layout


@dataclasses.dataclass(frozen=True)
class Saved:
    """A trained model as it lies in a folder: what it is, and where its parameters are; none is read yet.

    `context` is how many tokens it was meant for.
    """

    folder: Path
    config: Config
    model: Transformer | EncoderDecoder
    context: int
    match: Match

    def params(self, mesh: Mesh | None = None):
        """Returns the parameters, on a mesh divided along its axis `model`. What is not finite in them raises a warning."""
        dtype = jnp.float64 if self.model.precision == "float64" else jnp.float32
        read, tree = self.match, shapes(self.model)
        if mesh is None:
            arrays = [jnp.asarray(read.array(leaf, dtype)) for leaf in read.leaves]
        else:
            shardings = jax.tree.leaves(devices.weight_shardings(mesh, tree))
            each = zip(read.leaves, shardings, strict=True)
            arrays = [read.placed(leaf, dtype, sharding) for leaf, sharding in each]
        if lost := read.lost:
            warnings.warn(f"not finite in {jnp.dtype(dtype).name}: {several(lost, '; ')}", stacklevel=3)
        return jax.tree.unflatten(jax.tree.structure(tree), arrays)

    def sums(self) -> dict[str, str]:
        """Returns `{file: SHA-256}` of the files with the weights."""
        return sums(self.folder)

    def config_sum(self) -> str:
        """Returns the SHA-256 of config.json; of a GGUF file that of what it says in its place."""
        if self.folder.is_file():
            return hashlib.sha256(json.dumps(self.config.values).encode()).hexdigest()
        return hashlib.sha256((self.folder / "config.json").read_bytes()).hexdigest()

    def licence(self) -> dict[str, str]:
        """Returns the licence of the weights as their folder states it, and the file that does; empty where none does."""
        return licence.stated(self.folder)


@answering()
def checkpoint(
    folder: str | Path, *, readout: Readout | None = None, precision: str | None = None, mesh: Mesh | None = None
):
    """Returns `(model, params)` of a trained model: a folder with config.json and safetensors, in the layout of Hugging Face.

    Parameters
    ----------
    folder : with `model.safetensors`, or several files and their index; its `model_type` is one of `FAMILIES`. Or a GGUF file
        of a llama, qwen2 or qwen3, whose rounded numbers are widened
    readout : what stands in for the head of the files, such as `Readout()`, the token table, for a BERT saved without one
    precision : as of a `Transformer`; "float64" widens the parameters, which otherwise are float32
    mesh : devices among which every parameter is divided along its last axis, by the mesh's axis `model`; of the files each
        process reads what its devices hold, one shard of one parameter at a time, so that a model may be larger than a device

    Cost: the files are mapped and read one tensor at a time, a parameter is there twice while it is handed over. In all less
    than three times the size of files with four bytes a number, four times with two.

    Errors: ValueError for what is not such a folder, for a value of the configuration that is not supported or that nothing
    here has a use for, and one that names the tensors that are unknown, missing, misshaped, or not the copies that they should
    be. Tensors of other heads, which are ignored, and weights that are not finite raise a warning.
    """
    mesh = devices.automatic(mesh)
    found = saved(folder, readout=readout, precision=precision)
    return found.model, found.params(mesh)


def saved(folder: str | Path, *, readout: Readout | None = None, precision: str | None = None) -> Saved:
    """Returns what `checkpoint` reads, before it is read."""
    folder = as_path(folder)
    config, in_files = _opened(folder)
    architecture, layout = described(config)
    enough(architecture, layout, len(in_files))
    model = architecture.model(precision)
    if readout is not None:
        model = dataclasses.replace(model, readout=of_class("readout", readout, Readout))
    match = Match(layout, leaves(shapes(model)), in_files, replaced=readout is not None, block=scaled_block(config))
    if problems := match.problems():
        kind = config.get("model_type")
        raise ValueError(f"{printable(folder)} is not the {kind} that it describes: {problems}")
    if ignored := match.ignored_tensors():
        warnings.warn(f"{printable(folder)}: ignored: {several(list(map(plain, ignored)))}", stacklevel=3)
    return Saved(folder, config, model, architecture.context, match)


def _opened(folder: Path) -> tuple[Config, Mapping[str, Stored]]:
    """Returns the configuration and the tensors of a folder, or of a GGUF file."""
    if folder.suffix == gguf_files.SUFFIX and not os.path.isdir(folder):
        values, in_file = gguf_files.opened(folder)
        return Config(values, plain(folder.name)), in_file
    if not os.path.isdir(folder):  # whatever the name
        raise ValueError(f"{printable(folder)} is no folder: one with config.json and safetensors is expected")
    return Config(json_of(folder / "config.json")), unpacked(tensors(folder))


def described(config: Config) -> tuple[Architecture, Layout]:
    """Returns the architecture that a configuration describes, and the layout of its files."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ValueError(f"config.json: no model_type {shown(kind)}: {suggestions(str(kind)[:60], FAMILIES)}")
    config.classes(kind)
    config.only(pruned_heads={}, tie_encoder_decoder=False, cross_attention_hidden_size=None)
    config.only(is_encoder_decoder=kind in OF_TWO_SEQUENCES, is_decoder=False, add_cross_attention=False)
    own, layout = FAMILIES[kind](config)
    scaled_block(config)
    config.complete()
    return own, layout


def scaled_block(config: Config) -> tuple[int, int] | None:
    """Returns the rows and columns that share a scale where matrices are stored in 8 bits; None where none is.

    What is read are these matrices: activations that are rounded, too, where such a model runs, are not. Numbers of 4 bits say
    by themselves what shares a scale (`four_bits`).
    """
    given = config.table("quantization_config")
    if given is None:
        return None
    method = given.get("quant_method")
    given.ignore("modules_to_not_convert", "scale_fmt")
    if method == "mxfp4":
        given.complete()
        return None
    if method != "fp8":
        remedy = (
            "fp8 with scales by blocks and mxfp4 are read: load it with transformers, dequantized, and save it anew"
        )
        raise given.refuse("quant_method", method, remedy)
    given.only(fmt="e4m3", activation_scheme="dynamic")
    block = given.get("weight_block_size")
    if not isinstance(block, list) or len(block) != 2:
        raise given.refuse("weight_block_size", block, "two whole numbers are expected")
    rows, columns = (Config({"weight_block_size": one}, given.source).whole("weight_block_size") for one in block)
    given.complete()
    return rows, columns


def enough(own: Architecture, layout: Layout, tensors: int) -> None:
    """Refuses more blocks or experts than files with so many tensors can hold, before one of them is described."""
    counts = {"blocks": own.depth, "experts": max(source.each or 1 for source in layout.table.values())}
    for what, count in counts.items():
        if count > tensors:
            raise ValueError(f"config.json: {count} {what}, but the files have {tensors} tensors in all")
