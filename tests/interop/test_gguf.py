"""GGUF files, written by the library's own writer: read back they are the folder of safetensors that they were made of."""

from pathlib import Path

import interop_files as files
import jax
import numpy as np
import pytest

import gradflow as gf
from gradflow.interop import trained
from gradflow.model.parameters.names import named

gguf = pytest.importorskip("gguf", reason="GGUF files need gguf: pip install -e '.[gguf]'")

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SIZES |= {"intermediate_size": 64, "vocab_size": 11, "max_position_embeddings": 16, "rope_theta": 5e4}
CONFIGS = {
    "llama": {"model_type": "llama", **SIZES, "rms_norm_eps": 1e-5},
    "llama-biased": {"model_type": "llama", **SIZES, "attention_bias": True, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", **SIZES, "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", **SIZES, "head_dim": 16},
}
HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
NAMES = gguf.TensorNameMap(gguf.MODEL_ARCH.LLAMA, 2), gguf.TensorNameMap(gguf.MODEL_ARCH.QWEN3, 2)


def in_pairs(config: dict, name: str, tensor: np.ndarray) -> np.ndarray:
    """Rows of queries and keys as files of LLaMA have them: those that turn together beside each other."""
    heads = [config[size] for proj, size in HEADS.items() if f".{proj}." in name]
    if not heads or config["model_type"] != "llama":
        return tensor
    return tensor.reshape(heads[0], 2, -1, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def written(path: Path, config: dict, tensors: dict, kind: str = "F32", **changed) -> Path:
    """A file of these tensors, the matrices of that type; `changed` are metadata more."""
    writer = gguf.GGUFWriter(path, config["model_type"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_layer_norm_rms_eps(config.get("rms_norm_eps", 1e-6))
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    writer.add_name("a test")
    for name, value in changed.items():
        writer.add_string(name, value)
    quantized = gguf.GGMLQuantizationType[kind]
    for name, tensor in tensors.items():
        stem, _, end = name.rpartition(".")
        theirs = next((found for names in NAMES if (found := names.get_name(stem))), stem)
        rows = np.ascontiguousarray(in_pairs(config, name, tensor))
        if tensor.ndim == 2 and kind != "F32":
            writer.add_tensor(f"{theirs}.{end}", gguf.quants.quantize(rows, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(f"{theirs}.{end}", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rounded(tensor: np.ndarray, kind: str) -> np.ndarray:
    """A matrix as numbers of that type have it."""
    quantized = gguf.GGMLQuantizationType[kind]
    if tensor.ndim < 2 or kind == "F32":
        return tensor
    return gguf.quants.dequantize(gguf.quants.quantize(tensor, quantized), quantized)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_is_the_folder_that_it_was_made_of(name, kind, tmp_path):
    config = CONFIGS[name]
    tensors = files.contents(config)
    folder = files.saved(tmp_path / "folder", config, {n: rounded(a, kind) for n, a in tensors.items()})
    model, params = gf.checkpoint(folder)
    own, read = gf.checkpoint(written(tmp_path / "model.gguf", config, tensors, kind))
    assert own == model
    expected = named(params)
    for parameter, array in named(read).items():
        np.testing.assert_array_equal(array, expected[parameter], err_msg=parameter)


def test_a_file_is_read_in_shards_too(tmp_path):
    config = CONFIGS["llama"]
    file = written(tmp_path / "model.gguf", config, files.contents(config), "Q8_0")
    _, whole = gf.checkpoint(file)
    _, divided = gf.checkpoint(file, mesh=jax.make_mesh((1,), ("model",)))
    jax.tree.map(np.testing.assert_array_equal, divided, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "nothing here reads llama.rope.scaling.type = 'yarn'"),
        ({"llama.attention.of_mine": "x"}, "nothing here reads llama.attention.of_mine"),
    ],
)
def test_metadata_that_nothing_computes_with_are_refused_in_a_line(change, message, tmp_path):
    config = CONFIGS["llama"]
    with pytest.raises(ValueError, match=message) as error:
        gf.checkpoint(written(tmp_path / "model.gguf", config, files.contents(config), **change))
    assert "\n" not in str(error.value)


def test_what_is_no_such_file_or_of_another_kind_is_refused_in_a_line(tmp_path):
    config = CONFIGS["llama"]
    tensors = files.contents(config)
    whole = written(tmp_path / "model.gguf", config, tensors)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:3000])
    other = written(tmp_path / "gemma.gguf", {**config, "model_type": "gemma"}, tensors)
    more = written(
        tmp_path / "more.gguf",
        config,
        tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)},
    )
    for file, message in (
        (cut, "is not a whole GGUF file"),
        (tmp_path / "absent.gguf", "absent.gguf"),
        (other, "no architecture of a GGUF file 'gemma'"),
        (more, "nothing here reads the tensor"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            gf.checkpoint(file)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"model.gguf has no tokenizer.json beside it: in Python, gf.checkpoint"):
        trained.found(whole)
