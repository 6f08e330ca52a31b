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
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_bool(name, value) if isinstance(value, bool) else writer.add_uint32(name, value)
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
    with pytest.raises(
        ValueError, match=r"model.gguf has no tokenizer.json beside it, and none inside .* give the tok"
    ):
        trained.found(whole, context=8)


# ---- the tokenizer in a file --------------------------------------------------------------------------------

TEXT = (
    "It's 2026, isn't it?  1234567 words;\n\n  naïve Ünïcödé (\u0065\u0301) 漢字\tend <|end|> of 'LLamas' we'll see. "
    * 3
)


def pairs(tmp_path) -> dict:
    """A vocabulary of pairs of bytes that was learned from the text, in the words of a GGUF file, and how it is learned."""
    library = pytest.importorskip("tokenizers", reason="texts need tokenizers: pip install -e '.[hf]'")
    own = library.Tokenizer(library.models.BPE())
    own.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    own.train_from_iterator([TEXT], library.trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    own.model.save(str(tmp_path))
    vocabulary = sorted(own.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary] + ["<|end|>", "<|begin|>"]
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    kinds = [1] * len(vocabulary) + [3, 3]
    said = {"model": "gpt2", "tokens": tokens, "merges": merges, "token_type": kinds, "bos_token_id": len(tokens) - 1}
    return {f"tokenizer.ggml.{name}": value for name, value in said.items()}


def in_a_file(tmp_path, **more):
    """A file of a Qwen 2 with that tokenizer."""
    said = {**pairs(tmp_path), **{f"tokenizer.ggml.{name}": value for name, value in more.items()}}
    config = {**CONFIGS["qwen2"], "vocab_size": len(said["tokenizer.ggml.tokens"])}
    return written(tmp_path / "model.gguf", config, files.contents(config), **said), said


def test_a_text_is_cut_as_transformers_cuts_it_with_the_same_pairs(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the oracle is transformers: pip install -e '.[oracle]'")
    path, said = in_a_file(tmp_path, pre="qwen2")
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    own = trained.found(path, text=tmp_path / "text", context=8, batch=2)
    vocabulary = {token: i for i, token in enumerate(said["tokenizer.ggml.tokens"])}
    merges = [tuple(pair.split(" ")) for pair in said["tokenizer.ggml.merges"]]
    theirs = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=merges, unk_token="<|end|>", pad_token="<|end|>")
    np.testing.assert_array_equal(own.text.tokens, theirs(TEXT, add_special_tokens=False).input_ids)
    assert vocabulary["<|end|>"] in own.text.tokens
    assert own.text.notes[-1].startswith("nothing is put around an example")


def test_llama_3_splits_digits_by_three_and_begins_as_the_file_says(tmp_path):
    path, said = in_a_file(tmp_path, pre="llama-bpe")
    (tmp_path / "text").write_text(TEXT + "98765 " * 20, encoding="utf-8")
    own = trained.found(path, text=tmp_path / "text", context=8, batch=2)
    words = np.array(said["tokenizer.ggml.tokens"])[own.text.tokens]
    assert max(sum(c.isdigit() for c in word) for word in words) <= 3
    assert own.text.begin == (len(said["tokenizer.ggml.tokens"]) - 1,)
    path, _ = in_a_file(tmp_path, pre="llama-bpe", add_bos_token=False)
    assert trained.found(path, text=tmp_path / "text", context=8, batch=2).text.begin == ()


def test_a_file_without_a_tokenizer_is_measured_on_tokens(tmp_path):
    config = CONFIGS["llama"]
    path = written(tmp_path / "model.gguf", config, files.contents(config))
    np.save(tmp_path / "ids.npy", np.arange(300) % 11)
    own = trained.opened(path, tokens=tmp_path / "ids.npy", context=6, batch=2, readings=("economy",))
    assert bool((own.measured()["model.gguf"]["stream_gradient"] > 0).all())
    assert set(own.sources["weights_sha256"]) == {"model.gguf"}


@pytest.mark.parametrize("changed", [{"pre": "deepseek-llm"}, {"pre": "qwen2", "model": "llama"}, {}])
def test_another_tokenizer_is_said_to_be_unread(changed, tmp_path):
    path, _ = in_a_file(tmp_path, **changed)
    with pytest.raises(
        ValueError, match=r"beside it, and none inside that is read \(llama-bpe, qwen2\): give"
    ) as error:
        trained.found(path, context=8)
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_does_not_work_is_one_line(tmp_path):
    path, said = in_a_file(tmp_path, pre="qwen2")
    broken = {**said, "tokenizer.ggml.merges": ["no pair of these", "x"], "tokenizer.ggml.bos_token_id": 2**31}
    config = {**CONFIGS["qwen2"], "vocab_size": len(said["tokenizer.ggml.tokens"])}
    path = written(tmp_path / "model.gguf", config, files.contents(config), **broken)
    with pytest.raises(
        ValueError, match=r"tokenizer.json of .*model.gguf is not a tokenizer that can be read"
    ) as error:
        trained.found(path, context=8)
    assert "\n" not in str(error.value)
