"""A GGUF file as a configuration and tensors: metadata in the words of a config.json, matrices by their names in a folder.

So a file and the folder that it was made of are read by one description and one layout. Of LLaMA queries and keys lie in a GGUF
file as pairs of neighbours turn them: their rows are sorted into halves again. Quantized numbers are read as the library `gguf`
has them, the sizes of their blocks times what stands in them. Which names the metadata and the tensors have: ggml-org/llama.cpp,
gguf-py/gguf/constants.py, and convert_hf_to_gguf.py for the rows.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...results.arguments import known, shown
from ...results.files import printable, regular
from .files import plain, several

SUFFIX = ".gguf"
# Of each architecture: the model type, whether its queries and keys lie as pairs of neighbours.
KINDS = {"llama": True, "qwen2": False, "qwen3": False}
VALUES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
# What the metadata may say beside these: of the file, of the tokenizer, of how it was made.
OUTSIDE = ("general.", "tokenizer.", "quantize.", "GGUF.")
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TURNED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


@dataclass(frozen=True)
class Quantized:
    """A tensor of a GGUF file, of which `tensor[slices]` reads a part, in float32 where it was rounded to fewer bits.

    With `heads`, its rows are sorted into the halves that a rotation turns.
    """

    data: Any
    kind: Any
    shape: tuple[int, ...]
    heads: int | None = None
    dtype: str = "F32"

    def __getitem__(self, index) -> np.ndarray:
        from gguf.quants import dequantize

        numbers = self.data if self.data.dtype.kind == "f" else dequantize(self.data, self.kind)
        whole = numbers.reshape(self.shape)
        if self.heads:
            pairs = whole.reshape(self.heads, -1, 2, *self.shape[1:])
            whole = pairs.swapaxes(1, 2).reshape(self.shape)
        return whole[index]


def opened(path: Path) -> tuple[dict[str, Any], dict[str, Quantized]]:
    """Returns what a config.json would say of the model in a GGUF file, and its tensors by the names that its files have.

    Errors: ImportError without the extra; ValueError for what is no such file, for another architecture, and for what nothing
    here computes with: metadata, a tensor, a type of numbers.
    """
    file = reader(path)
    said = {name: field.contents() for name, field in file.fields.items()}
    kind = known("architecture of a GGUF file", str(said.get("general.architecture")), KINDS)
    values = _values(path, kind, said)
    tensors = {}
    for tensor in file.tensors:
        name, heads = _named(path, tensor.name)
        turned = values[heads] if heads and KINDS[kind] else None
        tensors[name] = _readable(path, tensor, turned)
    values["tie_word_embeddings"] = "lm_head.weight" not in tensors
    values["attention_bias"] = any(name.endswith("o_proj.bias") for name in tensors)
    if kind == "qwen2":
        del values["attention_bias"]  # it always has some, and none behind the heads
    if "model.embed_tokens.weight" in tensors:
        values["vocab_size"] = tensors["model.embed_tokens.weight"].shape[0]
    return values, tensors


def reader(path: Path):
    """Returns the library's reader of a file."""
    try:
        there = regular(path)
    except OSError as error:
        raise ValueError(str(error)) from None
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ImportError("reading GGUF files needs gguf: pip install 'gradflow-jax[gguf]'") from None
    try:
        return GGUFReader(there)
    except OSError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # of a file that is cut short the library lets NumPy speak
        raise ValueError(f"{printable(path)} is not a whole GGUF file: {plain(str(error))}") from None


def _values(path: Path, kind: str, said: dict[str, Any]) -> dict[str, Any]:
    """Returns the metadata in the words of a config.json; refuses what nothing here reads."""
    values: dict[str, Any] = {"model_type": kind}
    unread = []
    for name, value in said.items():
        own = name.removeprefix(f"{kind}.")
        if own in VALUES:
            values[VALUES[own]] = _decimal(value)
        elif name.startswith(OUTSIDE) or (own == "rope.scaling.type" and value == "none"):
            continue
        elif own not in ("attention.value_length", "rope.dimension_count"):
            unread.append(f"{plain(name)} = {shown(value)}")
    if said.get("split.count", 1) != 1:
        raise ValueError(
            f"{printable(path)} is one of {said['split.count']} files: merge them, llama-gguf-split --merge"
        )
    if unread:
        raise ValueError(f"{printable(path)}: nothing here reads {several(unread)}")
    missing = [name for name in ("num_hidden_layers", "hidden_size", "num_attention_heads") if name not in values]
    if missing:
        raise ValueError(f"{printable(path)} does not say {several(missing)}")
    values.setdefault("num_key_value_heads", values["num_attention_heads"])
    head = values.setdefault("head_dim", values["hidden_size"] // values["num_attention_heads"])
    for own in ("attention.value_length", "rope.dimension_count"):
        if said.get(f"{kind}.{own}", head) != head:
            raise ValueError(
                f"{printable(path)}: {kind}.{own} is {said[f'{kind}.{own}']}; {head}, as of a key, is supported"
            )
    if kind != "qwen3" and head == values["hidden_size"] // values["num_attention_heads"]:
        del values["head_dim"]  # as a folder leaves it out
    return values


def _decimal(value):
    """Returns a number as a text would have it: 1e-05 for the float32 next to it."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _named(path: Path, name: str) -> tuple[str, str | None]:
    """Returns the name that a tensor has in a folder, and the value that says its heads where its rows are those of heads."""
    stem, _, end = name.rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{end}", None
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if block is None or block[2] not in INNER:
        raise ValueError(f"{printable(path)}: nothing here reads the tensor {plain(name)}")
    return f"model.layers.{block[1]}.{INNER[block[2]]}.{end}", TURNED.get(block[2])


def _readable(path: Path, tensor, heads: int | None) -> Quantized:
    """Returns a tensor whose numbers can be read."""
    from gguf.quants import dequantize

    shape = tuple(int(size) for size in reversed(tensor.shape))
    if tensor.data.dtype.kind != "f":
        try:
            dequantize(tensor.data[:1], tensor.tensor_type)
        except NotImplementedError:
            raise ValueError(
                f"{printable(path)}: {plain(tensor.name)} is {tensor.tensor_type.name}, which gguf does not turn into numbers"
            ) from None
    return Quantized(tensor.data, tensor.tensor_type, shape, heads)
