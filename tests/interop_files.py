"""Folders as trained models lie in them, written here from the layouts, in the format's own words: a length, a JSON header,
the numbers.
"""

import json
from pathlib import Path

import numpy as np

from gradflow.interop.pretrained.configs import Config
from gradflow.interop.pretrained.families import FAMILIES
from gradflow.interop.pretrained.files import WHOLE
from gradflow.interop.pretrained.matching import leaves
from gradflow.interop.pretrained.sources import Counted
from gradflow.model.inputs.weights import shapes

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 11}
SIZES |= {"max_position_embeddings": 6}
GATED = {**SIZES, "intermediate_size": 12, "num_key_value_heads": 1}
LATENT = {
    "intermediate_size": 12,
    "moe_intermediate_size": 4,
    "first_k_dense_replace": 1,
    "n_routed_experts": 3,
    "n_group": 1,
}
LATENT |= {"topk_group": 1, "num_experts_per_tok": 2, "q_lora_rank": 5, "kv_lora_rank": 3, "qk_nope_head_dim": 6}
LATENT |= {"qk_rope_head_dim": 4, "v_head_dim": 5}
GPT = {"vocab_size": 11, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 6}
CONFIGS = {
    "bert": {"model_type": "bert", **SIZES, "intermediate_size": 12},
    "openai-gpt": {"model_type": "openai-gpt", **GPT},
    "gpt2": {"model_type": "gpt2", **GPT},
    "opt-pre": {"model_type": "opt", **SIZES, "ffn_dim": 12},
    "opt-post": {"model_type": "opt", **SIZES, "ffn_dim": 12, "do_layer_norm_before": False, "word_embed_proj_dim": 4},
    "llama": {"model_type": "llama", **GATED},
    "mistral": {"model_type": "mistral", **GATED},
    "qwen3": {"model_type": "qwen3", **GATED, "head_dim": 6},
    "gemma2": {"model_type": "gemma2", **GATED, "head_dim": 6},
    "gemma3_text": {"model_type": "gemma3_text", **GATED, "head_dim": 6},
    "olmo2": {"model_type": "olmo2", **GATED},
    "deepseek_v3": {"model_type": "deepseek_v3", **SIZES, **LATENT},
}
LANES = {"moe_intermediate_size": 4, "n_routed_experts": 3, "num_experts_per_tok": 2, "head_dim": 6, "q_lora_rank": 5}
LANES |= {
    "qk_rope_head_dim": 4,
    "o_groups": 2,
    "o_lora_rank": 3,
    "index_n_heads": 2,
    "index_head_dim": 4,
    "index_topk": 2,
}
LANES |= {"layer_types": ["sliding_attention", "compressed_sparse_attention"], "mlp_layer_types": ["hash_moe", "moe"]}
ROUTED = {**GATED, "num_experts_per_tok": 2, "moe_intermediate_size": 4}
HYBRID = {**ROUTED, "num_experts": 3, "head_dim": 8, "shared_expert_intermediate_size": 6}
HYBRID |= {"linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 4, "linear_value_head_dim": 3}
HYBRID |= {"layer_types": ["linear_attention", "full_attention"]}
ON_LANES = {**HYBRID, "hc_count": 2, "hc_lowrank": 3, "eos_token_id": 2, "ple_layer_ids": [1], "heads_per_ngram": 2}
ON_LANES |= {"indexer_n_heads": 2, "indexer_head_dim": 8, "indexer_budget": 4, "indexer_compress_ratio": 2}
ON_LANES |= {"ngram_vocab_size_base": 5, "make_ngram_vocab_size_divisible_by": 4, "split_ngram_parts": 5}
# Types of which the tests take one row more.
FURTHER = {
    "roberta": {"model_type": "roberta", **SIZES, "intermediate_size": 12, "max_position_embeddings": 8},
    "distilbert": {
        "model_type": "distilbert",
        "dim": 8,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 12,
        "vocab_size": 11,
    },
    "modernbert": {"model_type": "modernbert", **SIZES, "intermediate_size": 12},
    "gpt_neox": {"model_type": "gpt_neox", **SIZES, "intermediate_size": 12, "rotary_pct": 0.5},
    "gptj": {"model_type": "gptj", **GPT, "rotary_dim": 2},
    **{kind: {"model_type": kind, **GATED} for kind in ("qwen2", "phi3", "smollm3", "granite", "olmo", "olmo3")},
    "starcoder2": {"model_type": "starcoder2", **GATED},
    "cohere2": {"model_type": "cohere2", **GATED},
    "glm4": {"model_type": "glm4", **GATED, "head_dim": 4},
    "gemma": {"model_type": "gemma", **GATED, "head_dim": 6},
    "mixtral": {"model_type": "mixtral", **GATED, "num_local_experts": 3},
    "qwen3_moe": {"model_type": "qwen3_moe", **ROUTED, "num_experts": 3, "head_dim": 6},
    "gpt_oss": {"model_type": "gpt_oss", **GATED, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 6},
    "deepseek_v2": {"model_type": "deepseek_v2", **SIZES, **LATENT},
    "deepseek_v4": {"model_type": "deepseek_v4", **SIZES, **LANES},
    "qwen3_next": {"model_type": "qwen3_next", **HYBRID},
    "qwen4_exp_text": {"model_type": "qwen4_exp_text", **ON_LANES},
    "t5": {
        "model_type": "t5",
        "d_model": 8,
        "d_kv": 3,
        "d_ff": 12,
        "num_layers": 2,
        "num_heads": 2,
        "vocab_size": 11,
        "relative_attention_num_buckets": 4,
    },
}
DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "float64": "F64",
    "bfloat16": "BF16",
    "int64": "I64",
    "uint8": "U8",
    "float8_e4m3fn": "F8_E4M3",
}


def contents(config: dict) -> dict[str, np.ndarray]:
    """Random tensors under the names of a model type, with no two numbers alike."""
    own, layout = FAMILIES[config["model_type"]](Config(config))
    noise, found = np.random.default_rng(0), {}
    for leaf in leaves(shapes(own.model())):
        source = layout.table[leaf.name]
        for block in leaf.blocks or (0,):
            for one, shape in zip(source.names(block), source.shapes(leaf.shape), strict=True):
                found.setdefault(one, drawn(noise, source, shape))
    return found


def drawn(noise, source, shape) -> np.ndarray:
    """Numbers of the kind that a tensor has."""
    if isinstance(source, Counted):
        return noise.integers(0, source.kinds, shape)
    return noise.normal(size=shape).astype(np.float32)


def encoded(tensors: dict[str, np.ndarray], **changed) -> bytes:
    """The tensors in the safetensors format; `changed` replaces entries of the header by name."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor).tobytes()
        header[name] = {"dtype": DTYPES[str(tensor.dtype)], "shape": list(tensor.shape)}
        header[name]["data_offsets"] = [len(data), len(data) + len(raw)]
        data += raw
    text = json.dumps({**header, **changed}).encode()
    return len(text).to_bytes(8, "little") + text + data


def saved(folder: Path, config: dict, tensors: dict[str, np.ndarray]) -> Path:
    """The folder, with both in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / WHOLE).write_bytes(encoded(tensors))
    return folder
