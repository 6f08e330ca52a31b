"""Checkpoints without a library to compare with: what is written is read, what is wrong is told, whatever the bytes."""

import functools
import hashlib
import json
import os
import random
import resource
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop_files import CONFIGS, FURTHER, GATED, contents, encoded, saved
from jax.sharding import Mesh

import gradflow as gf
from gradflow.interop import pretrained
from gradflow.interop.pretrained.configs import Config
from gradflow.interop.pretrained.families import FAMILIES, OF_TWO_SEQUENCES
from gradflow.interop.pretrained.files import INDEX, WHOLE
from gradflow.interop.pretrained.matching import leaves
from gradflow.model.branches.rotary import ByWavelength, Dynamic, Interpolated, Rotary, Searched, Yarn
from gradflow.model.parameters.depth import ByBlock
from gradflow.model.stacks.embedding_readout import Readout
from gradflow.model.zoo.architecture import Architecture

pytest.importorskip("safetensors", reason="checkpoints need safetensors: pip install -e '.[hf]'")

ROWS = [*CONFIGS, *(pytest.param(name, marks=pytest.mark.further) for name in FURTHER)]
over_configs = pytest.mark.parametrize("name", ROWS)


def renamed(tensors, old: str, new: str):
    """The tensors, a part of their names replaced."""
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


def same(a, b) -> bool:
    """Whether two trees have the same numbers."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(np.array_equal(x, y) for x, y in pairs)


# ---- reading ------------------------------------------------------------------------------------------------


@over_configs
def test_every_parameter_is_the_tensor_that_the_layout_names(name, tmp_path):
    config = {**CONFIGS, **FURTHER}[name]
    tensors = contents(config)
    model, params = gf.checkpoint(saved(tmp_path, config, tensors))
    layout, used = FAMILIES[config["model_type"]](Config(config))[1], set()
    for leaf, array in zip(leaves(params), jax.tree.leaves(params), strict=True):
        source = layout.table[leaf.name]
        blocks = array if leaf.blocks is not None else [array]
        for block, own in zip(leaf.blocks or (0,), blocks, strict=True):
            used.update(source.names(block))
            np.testing.assert_array_equal(own, source([tensors[one] for one in source.names(block)]))
            assert own.dtype == np.float32
    assert used == set(tensors)
    tokens = np.arange(6)
    inputs = {"source": tokens, "target": tokens} if config["model_type"] in OF_TWO_SEQUENCES else tokens
    assert np.isfinite(jax.jit(model)(params, inputs)).all()


@over_configs
def test_parts_of_a_parameter_are_those_of_the_whole(name, tmp_path):
    """Of every layout: transposed, fused, interleaved and of several experts."""
    config = {**CONFIGS, **FURTHER}[name]
    match = pretrained.saved(saved(tmp_path, config, contents(config))).match
    for leaf in (leaf for leaf in match.leaves if leaf.shape):
        middle = max(1, leaf.shape[-1] // 2)
        halves = slice(0, middle), slice(middle, None)
        parts = [match.array(leaf, np.float32, part) for part in halves if range(leaf.shape[-1])[part]]
        np.testing.assert_array_equal(np.concatenate(parts, -1), match.array(leaf, np.float32))


@pytest.mark.parametrize("name", ["bert", pytest.param("deepseek_v4", marks=pytest.mark.further)])
def test_a_checkpoint_on_a_mesh_is_the_same(name, tmp_path):
    config = {**CONFIGS, **FURTHER}[name]
    folder = saved(tmp_path, config, contents(config))
    alone = Mesh(np.array(jax.devices()[:1]), ("model",))
    _, params = gf.checkpoint(folder, mesh=alone)
    assert same(params, gf.checkpoint(folder)[1])
    assert {leaf.sharding.mesh.axis_names for leaf in jax.tree.leaves(params)} == {("model",)}
    with pytest.raises(TypeError, match="mesh is 2: a Mesh is needed"):
        gf.checkpoint(folder, mesh=2)


def test_queries_keys_and_values_are_the_thirds_of_a_fused_matrix(tmp_path):
    tensors = contents(CONFIGS["gpt2"])
    _, params = gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], tensors))
    own = params["stack"][0]["attention"]["branch"]
    joined = np.concatenate([own[n].kernel[1] for n in ("query", "key", "value")], axis=-1)
    np.testing.assert_array_equal(joined, tensors["transformer.h.1.attn.c_attn.weight"])


def test_a_checkpoint_goes_through_the_instruments(tmp_path):
    model, params = gf.checkpoint(saved(tmp_path, CONFIGS["gemma2"], contents(CONFIGS["gemma2"])))
    tokens = np.arange(12).reshape(2, 6) % 11
    stacked = jax.tree.map(lambda a: a[None], params)
    batch = {"inputs": tokens, "targets": tokens}
    read = gf.measure(model, batch, params=stacked, quantities="economy")["model"]
    assert read["stream_gradient"].shape == (1, 5)
    assert bool((read["stream_gradient"] > 0).all())


def test_several_files_are_one_model_by_their_index(tmp_path):
    config, tensors = CONFIGS["llama"], contents(CONFIGS["llama"])
    whole = gf.checkpoint(saved(tmp_path / "whole", config, tensors))
    folder = saved(tmp_path / "parts", config, tensors)
    (folder / WHOLE).unlink()
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in halves.items():
        (folder / file).write_bytes(encoded({n: tensors[n] for n in own}))
    (folder / INDEX).write_text(json.dumps({"weight_map": {n: file for file, own in halves.items() for n in own}}))
    parts = gf.checkpoint(folder)
    assert parts[0] == whole[0]
    assert same(parts[1], whole[1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("gpt2", lambda t: renamed(t, "transformer.", "")),
        ("opt-pre", lambda t: renamed(t, "model.decoder", "decoder")),
        ("bert", lambda t: renamed(t, "bert.", "")),
        (
            "bert",
            lambda t: renamed(renamed(t, "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias", "LayerNorm.beta"),
        ),
        ("bert", lambda t: t | {"cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"]}),
        ("bert", lambda t: t | {"bert.embeddings.position_ids": np.arange(6)[None]}),
        ("gpt2", lambda t: t | {"lm_head.weight": t["transformer.wte.weight"]}),
        ("gpt2", lambda t: t | {"transformer.h.0.attn.bias": np.ones((1, 1, 6, 6), np.uint8)}),
        ("openai-gpt", lambda t: t | {"transformer.h.1.attn.bias": np.ones((1, 1, 6, 6), np.float32)}),
        ("llama", lambda t: t | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}),
        ("olmo2", lambda t: dict(reversed(t.items()))),
    ],
)
def test_other_ways_of_saving_the_same_weights_read_the_same(name, change, tmp_path):
    tensors = contents(CONFIGS[name])
    usual = gf.checkpoint(saved(tmp_path / "usual", CONFIGS[name], tensors))
    other = gf.checkpoint(saved(tmp_path / "other", CONFIGS[name], change(tensors)))
    assert same(usual[1], other[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_floating_types_are_brought_to_float32(dtype, tmp_path):
    tensors = {n: np.asarray(jnp.asarray(t, dtype)) for n, t in contents(CONFIGS["llama"]).items()}
    _, params = gf.checkpoint(saved(tmp_path, CONFIGS["llama"], tensors))
    table = params["embedding"]["token"].embedding[...]
    assert table.dtype == jnp.float32
    np.testing.assert_array_equal(table, tensors["model.embed_tokens.weight"].astype(np.float32))


def test_float64_is_kept_where_it_is_asked_for(tmp_path):
    tensors = {n: t + 1e-12 for n, t in contents(CONFIGS["gpt2"]).items()}
    tensors = {n: t.astype(np.float64) + 1e-12 for n, t in tensors.items()}
    model, params = gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], tensors), precision="float64")
    np.testing.assert_array_equal(params["leave"].scale[...], tensors["transformer.ln_f.weight"])
    assert model.precision == "float64"


def test_a_bert_without_its_head_is_refused_and_read_with_another(tmp_path):
    tensors = {n: t for n, t in contents(CONFIGS["bert"]).items() if not n.startswith("cls.")}
    tensors |= {"bert.pooler.dense.weight": np.ones((8, 8), np.float32)}
    folder = saved(tmp_path, CONFIGS["bert"], tensors)
    with pytest.raises(ValueError, match=r"missing: cls\.predictions\..* \[8\], our readout\."):
        gf.checkpoint(folder)
    with pytest.warns(UserWarning, match=r"ignored: bert\.pooler\.dense\.weight"):
        model, params = gf.checkpoint(folder, readout=Readout())
    assert model(params, jnp.arange(6)).shape == (6, 11)


def test_where_another_readout_stands_in_the_files_own_is_named(tmp_path):
    folder = saved(tmp_path, CONFIGS["bert"], contents(CONFIGS["bert"]))
    with pytest.warns(UserWarning, match=r"ignored: cls\.predictions\.bias, cls\.predictions\.transform"):
        gf.checkpoint(folder, readout=Readout())


QUANTIZED = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [5, 4]}


def in_eight_bits(tensors: dict) -> dict:
    """The tensors with all matrices of blocks in 8 bits, and the scales of their blocks of 5 by 4."""
    found = {}
    for name, tensor in tensors.items():
        if ".layers." not in name or tensor.ndim != 2:
            found[name] = tensor
            continue
        rows, columns = (-(-size // part) for size, part in zip(tensor.shape, (5, 4), strict=True))
        scales = (1 + np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)) / 7
        found |= {name: tensor.astype(jnp.float8_e4m3fn), f"{name}_scale_inv": scales}
    return found


def test_matrices_of_eight_bits_are_multiplied_by_the_scale_of_their_block(tmp_path):
    config, tensors = CONFIGS["llama"], in_eight_bits(contents(CONFIGS["llama"]))
    _, params = gf.checkpoint(saved(tmp_path, config | {"quantization_config": QUANTIZED}, tensors))
    name = "model.layers.1.self_attn.q_proj.weight"
    stored, scales = tensors[name].astype(np.float32), tensors[f"{name}_scale_inv"]
    found = np.asarray(params["stack"][0]["attention"]["branch"]["query"].kernel)[1].T
    for row, column in np.ndindex(stored.shape):
        assert found[row, column] == stored[row, column] * scales[row // 5, column // 4]
    np.testing.assert_array_equal(params["embedding"]["token"].embedding[...], tensors["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("quantized", "change", "message"),
    [
        (QUANTIZED, lambda name, scales: None, r"missing: .*q_proj.weight_scale_inv \[2, 2\], the scales of "),
        (QUANTIZED, lambda name, scales: scales[:1], r"misshaped: .*_scale_inv \[1, 2\], expected \[2, 2\]"),
        (None, lambda name, scales: scales, "not of F64, F32, F16, BF16: model.layers.0"),
        (QUANTIZED | {"fmt": "e5m2"}, lambda name, scales: scales, "fmt is 'e5m2'; only 'e4m3' is supported"),
        (
            QUANTIZED | {"weight_block_size": [5]},
            lambda name, scales: scales,
            "weight_block_size is .*two whole numbers",
        ),
        ({"quant_method": "gptq"}, lambda name, scales: scales, "quant_method is 'gptq'; fp8 .* dequantized, and save"),
    ],
)
def test_matrices_of_eight_bits_without_their_scales_are_refused(quantized, change, message, tmp_path):
    tensors = in_eight_bits(contents(CONFIGS["llama"]))
    name = "model.layers.0.self_attn.q_proj.weight_scale_inv"
    tensors[name] = change(name, tensors[name])
    there = {one: tensor for one, tensor in tensors.items() if tensor is not None}
    with pytest.raises(ValueError, match=message) as error:
        gf.checkpoint(saved(tmp_path, CONFIGS["llama"] | {"quantization_config": quantized}, there))
    assert "\n" not in str(error.value)


# ---- configurations -----------------------------------------------------------------------------------------


def described(**changed):
    """The architecture of a LLaMA's configuration with these values."""
    kind = changed.pop("model_type", "llama")
    return FAMILIES[kind](Config({**GATED, **changed}))[0]


def test_a_rotation_is_read_either_way():
    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    for kind in ("rope_type", "type"):
        assert described(rope_theta=5e5, rope_scaling={kind: "llama3", **llama3}).rotary == Rotary(
            5e5, ByWavelength(8.0, 1.0, 4.0, 64)
        )
    new = described(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **llama3})
    assert new.rotary == Rotary(5e5, ByWavelength(8.0, 1.0, 4.0, 64))
    assert described(rope_scaling={"type": "linear", "factor": 2}).rotary == Rotary(1e4, Interpolated(2.0))
    assert described().rotary == Rotary(1e4)
    assert described(rope_theta=1e6, rope_scaling=None).rotary == Rotary(1e6)


def test_rotations_of_longer_contexts_are_read():
    """As their formulas have it: YaRN's queries and keys are longer, unless both of its factors are the same."""
    scaled = lambda **values: (
        described(rope_parameters={"rope_theta": 50.0, **values}, max_position_embeddings=64).rotary
    )
    assert scaled(rope_type="dynamic", factor=3.0) == Rotary(50.0, Dynamic(3.0, 64))
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    longer = 0.1 * np.log(4.0) + 1
    assert scaled(**yarn) == Rotary(50.0, Yarn(4.0, 16, base=50.0, magnitude=longer))
    assert scaled(**yarn, mscale=0.7, mscale_all_dim=0.7) == Rotary(50.0, Yarn(4.0, 16, base=50.0))
    assert scaled(**yarn, attention_factor=1.5, truncate=False).scaling == Yarn(
        4.0, 16, base=50.0, magnitude=1.5, whole=False
    )
    by_length = {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0]}
    searched = scaled(**by_length, original_max_position_embeddings=16).scaling
    assert searched == Searched((1.0, 2.0), (3.0, 4.0), 16, (1 + np.log(4) / np.log(16)) ** 0.5)
    with pytest.raises(ValueError, match=r"short_factor is 2; a list of positive numbers is expected"):
        scaled(**{**by_length, "short_factor": 2})


def test_blocks_without_positions_turn_nothing():
    """SmolLM3's, and Command R7B's that see all."""
    assert described(model_type="smollm3", no_rope_layers=[1, 0]).rotary == Rotary(2e6, turns=ByBlock((1.0, 0.0)))
    seven = described(model_type="cohere2", num_hidden_layers=4)
    assert seven.rotary == Rotary(1e4, turns=ByBlock((1.0, 1.0, 1.0, 0.0)))
    assert seven.window == ByBlock((4096, 4096, 4096, None))
    assert described(model_type="smollm3", no_rope_layers=[0, 0]).rotary is None
    with pytest.raises(ValueError, match=r"no_rope_layers is \[1\]; a list of 2 numbers, 0 or 1"):
        described(model_type="smollm3", no_rope_layers=[1])


def test_gemma_3_has_two_rotations_either_way():
    six = {"model_type": "gemma3_text", "num_hidden_layers": 7, "head_dim": 6}
    old = described(
        **six, rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling={"rope_type": "linear", "factor": 8.0}
    )
    bases = ByBlock((1e4,) * 5 + (1e6,))
    assert old.rotary == Rotary(bases, Interpolated(ByBlock((1.0,) * 5 + (8.0,))))
    assert old.window == ByBlock((4096,) * 5 + (None,))
    far = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    new = described(**six, rope_parameters={"full_attention": far, "sliding_attention": {"rope_theta": 1e4}})
    assert new == old
    assert described(**six).rotary == Rotary(bases)


def test_windows_are_the_familys_own_or_those_of_the_list():
    windows = lambda **changed: described(**changed).window
    assert windows(model_type="gemma2", num_hidden_layers=4) == ByBlock((4096, None))
    assert windows(model_type="gemma2", layer_types=["full_attention"] * 2) is None
    assert windows(model_type="mistral") == 4096
    assert windows(model_type="mistral", sliding_window=None) is None
    assert windows(model_type="qwen3") is None
    assert windows(model_type="qwen3", use_sliding_window=True, max_window_layers=1, sliding_window=3) == ByBlock(
        (None, 3)
    )


REFUSED = [
    ("llama", {"model_type": "xyz"}, r"no model_type 'xyz': known: bert"),
    ("llama", {"model_type": None}, "no model_type None"),
    ("llama", {"hidden_act": "mish"}, "hidden_act is 'mish'; supported are gelu, gelu_new"),
    (
        "llama",
        {"rope_scaling": {"rope_type": "ntk", "factor": 2.0}},
        "rope_type is 'ntk'; supported are default, linear, dynamic",
    ),
    ("llama", {"rope_scaling": {"type": "linear", "factor": -1}}, "rope_scaling: factor is -1; a positive number"),
    (
        "llama",
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
        r"partial_rotary_factor is 0.5; only 1.0 is supported",
    ),
    ("llama", {"rope_parameters": [1]}, r"rope_parameters is \[1\]; an object is expected"),
    ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; a whole number from 1 to"),
    ("llama", {"num_hidden_layers": 5000}, "5000 blocks, but the files have 21 tensors in all"),
    ("llama", {"num_hidden_layers": "2"}, "num_hidden_layers is '2'; a whole number"),
    ("llama", {"num_hidden_layers": True}, "num_hidden_layers is True; a whole number"),
    ("llama", {"hidden_size": 0}, "hidden_size is 0; a whole number"),
    ("llama", {"num_attention_heads": 3}, "width = 8 is not a multiple of heads = 3|kv_heads"),
    ("llama", {"num_key_value_heads": 3}, "kv_heads = 3 must divide heads = 2"),
    ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps is nan; a positive number is expected"),
    ("llama", {"attention_bias": 1}, "attention_bias is 1; true or false is expected"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'; only 'absolute'"),
    ("bert", {"is_decoder": True}, "is_decoder is True; only False is supported"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True; only False"),
    ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings is False; only True is supported"),
    ("gemma2", {"layer_types": ["full_attention"]}, "layer_types is .*a list of 2 words"),
    ("gemma2", {"layer_types": ["full_attention", "linear_attention"]}, "layer_types is .*a list of 2 words"),
    ("opt-pre", {"activation_function": 3}, "activation_function is 3; supported are"),
    ("qwen3_next", {"mlp_only_layers": [0]}, r"mlp_only_layers is \[0\]; only \[\] is supported"),
    (
        "qwen3_next",
        {"layer_types": ["linear_attention", "sliding_attention"]},
        "layer_types is .*a list of 2 words, of lin",
    ),
    ("qwen4_exp_text", {"indexer_budget": 3}, "indexer_budget is 3; a multiple of indexer_compress_ratio, 2, is"),
    ("qwen4_exp_text", {"ple_layer_ids": [3]}, r"ple_layer_ids is \[3\]; a list of numbers of blocks, 1 to 2, is"),
    ("qwen4_exp_text", {"eos_token_id": []}, "eos_token_id is None; the token that ends a text is expected"),
    ("qwen4_exp_text", {"eos_token_id": ["a"]}, "eos_token_id is 'a'; a whole number"),
    ("qwen4_exp_text", {"output_gate_type": "relu"}, "output_gate_type is 'relu'; supported are silu, swish, sigmoid"),
    (
        "qwen4_exp_text",
        {"heads_per_ngram": 2**24},
        "ple_embed_dim is 8; a multiple of the 33554432 heads of n-grams is",
    ),
    ("qwen4_exp_text", {"ngram_vocab_size_base": 2**31}, "fewer than 2.31 are needed"),
    ("qwen4_exp_text", {"hc_count": 1}, "hc_count is 1; a whole number from 2"),
    ("qwen4_exp", {"text_config": None}, "text_config is None; the configuration of the text model is expected"),
]


@pytest.mark.parametrize(("name", "change", "message"), REFUSED, ids=[f"{n} {next(iter(c))}" for n, c, _ in REFUSED])
def test_a_value_that_is_not_supported_is_refused_by_name(name, change, message, tmp_path):
    config = {**CONFIGS, **FURTHER, "qwen4_exp": {**CONFIGS["llama"], "model_type": "qwen4_exp"}}[name]
    folder = saved(tmp_path, config, {} if name == "qwen4_exp" else contents(config))
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message) as error:
        gf.checkpoint(folder)
    assert "\n" not in str(error.value)


def test_numbers_by_which_n_grams_are_hashed_are_those_of_the_configuration(tmp_path):
    config, name = FURTHER["qwen4_exp_text"], "model.layers.0.ple.ple_embedding.layer_multipliers"
    tensors = contents(config)
    model, _ = gf.checkpoint(saved(tmp_path / "right", config, tensors))
    right = np.array(model.stack.sublayers[0].branch.ngrams.multipliers)
    gf.checkpoint(saved(tmp_path / "said", config, {**tensors, name: right}))
    with pytest.raises(ValueError, match=f"not as the configuration says: {name}"):
        gf.checkpoint(saved(tmp_path / "other", config, {**tensors, name: right + 2}))


def test_a_neighbours_folder_under_another_name_is_refused(tmp_path):
    """By its tensors, by its values, or by the names of its classes: bare, LLaMA and a Mistral without a window are one model."""
    kinds = dict.fromkeys(config["model_type"] for config in CONFIGS.values())
    taken = set()
    for name, config in CONFIGS.items():
        tensors = contents(config)
        for kind in kinds:
            folder = saved(tmp_path / f"{name}-{kind}", {**config, "model_type": kind}, tensors)
            found, line = outcome(folder)
            assert "\n" not in line
            if found:
                taken.add((config["model_type"], kind))
    assert taken == {(kind, kind) for kind in kinds} | {("llama", "mistral"), ("mistral", "llama")}


# ---- files that are not right -------------------------------------------------------------------------------


def test_all_that_is_wrong_with_the_tensors_is_told_at_once(tmp_path):
    tensors = contents(CONFIGS["llama"])
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = np.ones(9, np.float32)
    tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(4, np.float32)
    tensors["lm_head.weight"] = tensors["lm_head.weight"].astype(np.int64)
    with pytest.raises(ValueError, match="is not the llama that it describes") as error:
        gf.checkpoint(saved(tmp_path, CONFIGS["llama"], tensors))
    _, _, told = str(error.value).partition("that it describes: ")
    assert set(told.split("; ")) == {
        "missing: model.layers.1.mlp.up_proj.weight [12, 8], our mlp.up",
        "misshaped: model.norm.weight [9], expected [8]",
        "not of F64, F32, F16, BF16: lm_head.weight, I64",
        "unknown: model.layers.0.self_attn.q_norm.weight [4]",
    }
    tensors = {name: tensor for name, tensor in tensors.items() if ".1." not in name}
    with pytest.raises(ValueError, match=r"missing: model\.layers\.1\.self_attn.* and 7 more; ") as error:
        gf.checkpoint(saved(tmp_path, CONFIGS["llama"], tensors))
    assert "\n" not in str(error.value)


def test_a_copy_that_differs_from_what_it_is_tied_to_is_told(tmp_path):
    tensors = contents(CONFIGS["gpt2"])
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1
    with pytest.raises(ValueError, match=r"not tied: lm_head\.weight differs from transformer\.wte\.weight"):
        gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], tensors))


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    folder = saved(tmp_path, CONFIGS["gpt2"], contents(CONFIGS["gpt2"]))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"needs safetensors: pip install 'gradflow-jax\[hf\]'"):
        gf.checkpoint(folder)


def test_weights_that_are_quantized_are_refused(tmp_path):
    config = CONFIGS["deepseek_v3"] | {"quantization_config": {"quant_method": "fp8"}}
    with pytest.raises(ValueError, match="quantization_config: weight_block_size is .*two whole numbers"):
        gf.checkpoint(saved(tmp_path, config, contents(CONFIGS["deepseek_v3"])))


PACKED = {**GATED, "hidden_size": 32, "intermediate_size": 32, "head_dim": 6, "model_type": "gpt_oss"}
PACKED |= {"num_local_experts": 3, "num_experts_per_tok": 2, "quantization_config": {"quant_method": "mxfp4"}}
OF_4_BITS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]


def packed_by_hand(shape, noise) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices [E, in, out], and the blocks and scales that they are, number by number."""
    experts, inputs, outputs = shape
    blocks, scales = np.zeros((experts, outputs, inputs // 32, 16), np.uint8), np.zeros((experts, outputs, 1), np.uint8)
    whole = np.zeros(shape, np.float32)
    for e, i, o in np.ndindex(*shape):
        code = noise.integers(16)
        scales[e, o, i // 32] = scales[e, o, i // 32] or noise.integers(120, 130)
        blocks[e, o, i // 32, i % 32 // 2] |= code << 4 * (i % 2)
        whole[e, i, o] = OF_4_BITS[code] * 2.0 ** (int(scales[e, o, i // 32]) - 127)
    return whole, blocks, scales


def test_experts_of_4_bits_are_the_numbers_that_their_blocks_and_scales_say(tmp_path):
    plain, noise = contents(PACKED), np.random.default_rng(0)
    packed = dict(plain)
    for name in [name for name in plain if name.endswith(("gate_up_proj", "experts.down_proj"))]:
        plain[name], packed[f"{name}_blocks"], packed[f"{name}_scales"] = packed_by_hand(plain[name].shape, noise)
        del packed[name]
    assert len(packed) == len(plain) + 4
    folder = saved(tmp_path / "packed", PACKED, packed)
    assert same(gf.checkpoint(folder)[1], gf.checkpoint(saved(tmp_path / "plain", PACKED, plain))[1])
    lost = {name: tensor for name, tensor in packed.items() if name != "model.layers.1.mlp.experts.down_proj_scales"}
    with pytest.raises(
        ValueError, match=r"missing: model.layers.1.mlp.experts.down_proj \[3, 32, 32\].* unknown: .*_blocks"
    ):
        gf.checkpoint(saved(tmp_path / "lost", PACKED, lost))


def test_a_table_that_names_an_expert_that_there_is_not_is_refused(tmp_path):
    tensors = contents(FURTHER["deepseek_v4"])
    tensors["model.layers.0.ffn.gate.tid2eid"][3, 1] = 3
    with pytest.raises(ValueError, match=r"ffn\.gate\.tid2eid names 0 to 3: numbers from 0 to 2 are expected"):
        gf.checkpoint(saved(tmp_path, FURTHER["deepseek_v4"], tensors))


def test_the_block_that_predicts_a_second_token_is_named_and_left_aside(tmp_path):
    more = {"model.layers.2.eh_proj.weight": np.ones((8, 16), np.float32)}
    folder = saved(tmp_path, CONFIGS["deepseek_v3"], contents(CONFIGS["deepseek_v3"]) | more)
    with pytest.warns(UserWarning, match=r"ignored: model\.layers\.2\.eh_proj\.weight"):
        gf.checkpoint(folder)


def test_weights_that_are_not_finite_are_named_and_read(tmp_path):
    """In a stacked parameter, a part of a fused matrix, one expert, and a number that float32 has no room for."""
    told = {}
    for name, theirs, entries in (
        ("llama", "model.layers.1.mlp.up_proj.weight", {(0, 0): np.nan, (2, 3): np.inf}),
        ("gpt2", "transformer.h.0.attn.c_attn.weight", {(1, 9): -np.inf}),
        ("deepseek_v3", "model.layers.1.mlp.experts.2.up_proj.weight", {(0, 0): np.nan}),
        ("olmo2", "model.norm.weight", {(3,): 1e300}),
    ):
        tensors = contents(CONFIGS[name])
        tensors[theirs] = tensors[theirs].astype(np.float64)
        for place, value in entries.items():
            tensors[theirs][place] = value
        with pytest.warns(UserWarning, match="not finite in float32: ") as warned:
            _, params = gf.checkpoint(saved(tmp_path / name, CONFIGS[name], tensors))
        told[name] = str(warned[0].message).removeprefix("not finite in float32: ")
        assert sum(np.count_nonzero(~np.isfinite(leaf)) for leaf in jax.tree.leaves(params)) == len(entries)
    assert told == {
        "llama": "model.layers.1.mlp.up_proj.weight (our mlp.up): 2 of 96 entries",
        "gpt2": "transformer.h.0.attn.c_attn.weight (our attention.key): 1 of 64 entries",
        "deepseek_v3": "model.layers.1.mlp.experts.2.up_proj.weight (our experts.routed.up): 1 of 32 entries",
        "olmo2": "model.norm.weight (our leave.scale): 1 of 8 entries",
    }
    tensors = {name: np.full_like(tensor, np.nan) for name, tensor in contents(CONFIGS["llama"]).items()}
    with pytest.warns(UserWarning, match=r"; .*; .* and 18 more$"):
        gf.checkpoint(saved(tmp_path / "all", CONFIGS["llama"], tensors))


def test_a_copy_of_what_is_not_finite_is_a_copy(tmp_path):
    tensors = contents(CONFIGS["gpt2"])
    tensors["transformer.wte.weight"][0, 0] = np.nan
    with pytest.warns(UserWarning, match=r"transformer\.wte\.weight \(our token\): 1 of 88"):
        gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}))


def test_the_sums_are_those_of_the_files(tmp_path):
    config, tensors = CONFIGS["llama"], contents(CONFIGS["llama"])
    one, more = pretrained.saved(saved(tmp_path / "one", config, tensors)), {n: 1.5 * t for n, t in tensors.items()}
    other = pretrained.saved(saved(tmp_path / "other", config, more))
    assert one.sums() == {WHOLE: hashlib.sha256((tmp_path / "one" / WHOLE).read_bytes()).hexdigest()}
    assert other.sums() != one.sums()


@pytest.mark.parametrize(
    ("kind", "size"), [("I64", 8), ("U16", 2), ("BOOL", 1), ("C64", 8), ("F8_E4M3", 1), ("F8_E5M2", 1)]
)
def test_numbers_that_are_no_weights_are_named_with_their_type(kind, size, tmp_path):
    folder = saved(
        tmp_path, CONFIGS["gpt2"], contents(CONFIGS["gpt2"]) | {"transformer.ln_f.bias": np.zeros(size, np.uint8)}
    )
    raw = (folder / WHOLE).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["transformer.ln_f.bias"] |= {"dtype": kind, "shape": [1]}
    text = json.dumps(header).encode()
    (folder / WHOLE).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(ValueError, match=r"transformer\.ln_f\.bias|not a whole safetensors file") as error:
        gf.checkpoint(folder)
    assert str(error.value).isprintable()


def test_a_tensor_without_numbers_is_misshaped(tmp_path):
    tensors = contents(CONFIGS["gpt2"]) | {"transformer.ln_f.bias": np.zeros((0, 8), np.float32)}
    with pytest.raises(ValueError, match=r"misshaped: transformer\.ln_f\.bias \[0, 8\], expected \[8\]"):
        gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], tensors))


@pytest.mark.parametrize(
    "name",
    ["\n", "a\nb", "\x1b[31mred\x1b[0m", "\x00", "\u202egnp", "x" * 100_000, " ", "model.layers.9.\r", "{}", "{0}{1}"],
)
def test_names_of_tensors_are_escaped_and_cut(name, tmp_path):
    with pytest.raises(ValueError, match="unknown: ") as error:
        gf.checkpoint(saved(tmp_path, CONFIGS["gpt2"], contents(CONFIGS["gpt2"]) | {name: np.ones(1, np.float32)}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def header(text: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    """A file with that header."""
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN = {
    "nothing": b"",
    "short": b"\x01\x02",
    "no header": (100).to_bytes(8, "little"),
    "a length of 2^60": header(b"{}", 2**60),
    "a length of 2^64 - 1": header(b"{}", 2**64 - 1),
    "a header that is none": header(b"nonsense"),
    "a list": header(b"[]"),
    "not UTF-8": header(b'{"\xff": 1}'),
    "deep": header(b"[" * 100_000),
    "overlapping": header(json.dumps({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}).encode(), data=bytes(12)),
    "a hole": header(json.dumps({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}).encode(), data=bytes(20)),
    "backwards": header(json.dumps({"a": {**ENTRY, "data_offsets": [8, 0]}}).encode(), data=bytes(8)),
    "beyond": header(json.dumps({"a": {**ENTRY, "data_offsets": [0, 2**62]}}).encode(), data=bytes(8)),
    "too many": header(json.dumps({"a": {**ENTRY, "shape": [2**62, 2**62]}}).encode(), data=bytes(8)),
    "negative": header(json.dumps({"a": {**ENTRY, "shape": [-2]}}).encode(), data=bytes(8)),
    "a type that is none": header(json.dumps({"a": {**ENTRY, "dtype": "F99\n\x1b[31m"}}).encode(), data=bytes(8)),
    "more behind": header(json.dumps({"a": ENTRY}).encode(), data=bytes(9)),
    "less behind": header(json.dumps({"a": ENTRY}).encode(), data=bytes(7)),
    "metadata that are none": header(json.dumps({"__metadata__": 3, "a": ENTRY}).encode(), data=bytes(8)),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_not_whole_is_one_line(content, tmp_path):
    folder = saved(tmp_path, CONFIGS["gpt2"], {})
    (folder / WHOLE).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"model\.safetensors of .* is not a whole safetensors file|missing: "
    ) as error:
        gf.checkpoint(folder)
    assert str(error.value).isprintable()


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    for name in ("config.json", "x.safetensors"):
        folder = saved(tmp_path / name, CONFIGS["gpt2"], {})
        (folder / WHOLE).unlink()
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(ValueError, match="is a FIFO: a regular file is expected"):
            gf.checkpoint(folder)


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["bert"]))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin, and only safetensors is read .*save_pretrained"):
        gf.checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "absent.safetensors"}}, "lacks absent.safetensors, which .* names"),
        ({"weight_map": {"a": "../model.safetensors"}}, "names '../model.safetensors': a safetensors file beside it"),
        ({"weight_map": {"a": "model.bin"}}, "names 'model.bin': a safetensors file beside it"),
        ({"weight_map": {"a": 3}}, "has no weight_map"),
        ({}, "has no weight_map"),
        ([], "holds a list: a JSON object is expected"),
        ({"weight_map": {"a": "a\nb.safetensors"}}, r"lacks 'a\\nb.safetensors', which .* names"),
        ({"weight_map": {"a": "x" * 5000 + ".safetensors"}}, "lacks 'xxx.*…, which"),
        ({"weight_map": {"a": "\x00.safetensors"}}, "lacks|names"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names '/etc/passwd': a safetensors file beside it"),
        ({"weight_map": {str(i): f"{i}.safetensors" for i in range(99)}}, "and 95 more, which"),
        ({"weight_map": {"a": [[[[[[{}]]]]]]}}, "has no weight_map"),
    ],
)
def test_an_index_that_is_not_right_is_refused(index, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        gf.checkpoint(tmp_path)


def test_folders_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        gf.checkpoint(tmp_path / "nothing")
    with pytest.raises(
        ValueError, match=r"there is no file .*config.json: a folder with config.json and safetensors is expected"
    ):
        gf.checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{" * 100_000)
    with pytest.raises(ValueError, match="config.json of .* is not JSON"):
        gf.checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(ValueError, match="config.json of .* is not JSON"):
        gf.checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    with pytest.raises(ValueError, match="has no model.safetensors"):
        gf.checkpoint(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(encoded({}))
    with pytest.raises(ValueError, match="has 2 safetensors files and no"):
        gf.checkpoint(tmp_path)


# ---- whatever the bytes -------------------------------------------------------------------------------------

VALUES = [0, -1, 1, 3, 2**24, 2**31, 2**63, 10**30, 1.5, -0.5, 1e308, float("inf"), float("nan"), True, False, None]
VALUES += [
    "",
    "gelu",
    "x" * 1000,
    [],
    [1],
    [[]],
    {},
    {"a": 1},
    {"rope_type": "linear"},
    {"rope_type": "llama3", "factor": 2},
]
ONE = {
    name: {**config, **{k: 1 for k in ("num_hidden_layers", "n_layer") if k in config}}
    for name, config in CONFIGS.items()
    if name != "deepseek_v3"
}
ONE["deepseek_v3"] = CONFIGS["deepseek_v3"]


def mutated(raw: bytes, dice: random.Random) -> bytes:
    """A safetensors file with some bytes changed, cut, doubled, or its length or a shape in its header replaced."""
    size = int.from_bytes(raw[:8], "little")
    kind = dice.randrange(6)
    if kind == 0:
        where = dice.randrange(8 + size)
        return raw[:where] + bytes(dice.randrange(256) for _ in range(dice.randint(1, 8))) + raw[where + 4 :]
    if kind == 1:
        return raw[: dice.randrange(len(raw))]
    if kind == 2:
        return dice.choice([0, 1, size - 1, size + 1, 2**40, 2**63, 2**64 - 1]).to_bytes(8, "little") + raw[8:]
    header = json.loads(raw[8 : 8 + size])
    name = dice.choice([n for n in header if n != "__metadata__"])
    if kind == 3:
        header[name][dice.choice(["dtype", "shape", "data_offsets"])] = dice.choice(
            [*VALUES, [2**40, 2**40], [0, 2**62], "F4", "I8"]
        )
    elif kind == 4:
        header[name]["shape"] = header[name]["shape"][::-1] + dice.choice([[], [1]])
    else:
        header[dice.choice(["", "é\u0000", "model.layers.0", name + ".x", "x" * 5000])] = header.pop(name)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + size :]


def outcome(folder):
    """The parameters, or None and what the error says. Any other error, and any warning, goes through."""
    try:
        return gf.checkpoint(folder)[1], ""
    except ValueError as error:
        return None, str(error)


def same_shapes(a, b) -> bool:
    """Whether two trees have arrays of the same shapes, whatever their numbers."""
    return [x.shape for x in jax.tree.leaves(a)] == [x.shape for x in jax.tree.leaves(b)]


@pytest.mark.filterwarnings("ignore:.*ignored:UserWarning")
@pytest.mark.parametrize("rounds", [300, pytest.param(1100, marks=pytest.mark.long)])
def test_whatever_the_bytes_there_is_a_clear_error_or_a_right_answer(rounds, tmp_path, monkeypatch):
    """1,100 files and configurations, each with one thing changed: a ValueError, or the parameters that were written."""
    monkeypatch.setattr(Architecture, "model", functools.cache(Architecture.model))  # most cases have the same one
    dice, folders = random.Random(0), {}
    for name, config in ONE.items():
        folder = saved(tmp_path / name, config, contents(config))
        folders[name] = folder, gf.checkpoint(folder)[1]
    before, read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for _ in range(rounds):
        name = dice.choice(list(ONE))
        folder, right = folders[name]
        path = folder / (WHOLE if dice.random() < 0.6 else "config.json")
        kept = path.read_bytes()
        if path.name == WHOLE:
            path.write_bytes(mutated(kept, dice))
        elif dice.random() < 0.9:
            path.write_text(json.dumps(ONE[name] | {dice.choice([*ONE[name], "rope_scaling"]): dice.choice(VALUES)}))
        else:
            path.write_bytes(kept[: dice.randrange(len(kept))])
        found, message = outcome(folder)
        assert found is None or same_shapes(found, right)
        assert found is not None or 0 < len(message) < 20_000
        read += found is not None
        path.write_bytes(kept)
    assert 0 < read < rounds / 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB; files are of some kB
