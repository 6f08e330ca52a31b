"""An independent library for trained models: transformers, on tiny random models of every type that is read.

Each is made and saved there, read here, and compared: logits, loss, the gradient of every parameter and of every entry of the
stream between blocks. In float32 as both are used; and in float64, for which transformers' own fixed "float32" (softmax,
RMSNorm, rotation) is taken to mean float64 while it runs, the only way to compare beyond the rounding that it builds in.

Axes: 2 examples, 7 tokens, 32 features; L = 3 blocks, 2L sublayers.
"""

import contextlib
import json
import os
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.forward import attention
from gradflow.interop import pretrained, trained
from gradflow.interop.pretrained.configs import Config
from gradflow.interop.pretrained.families import FAMILIES, OF_TWO_SEQUENCES
from gradflow.interop.pretrained.files import json_of
from gradflow.interop.pretrained.four_bits import Packed
from gradflow.interop.pretrained.matching import leaves
from gradflow.interop.pretrained.metadata import HARMLESS
from gradflow.model.equation.sublayer import residual, sublayer, walk
from gradflow.model.inputs.batch import checked

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")
transformers = pytest.importorskip("transformers", reason="the oracle is transformers: pip install -e '.[oracle]'")
pytest.importorskip("safetensors", reason="checkpoints need safetensors: pip install -e '.[hf]'")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

BLOCKS, WIDTH, HEADS, TOKENS, VOCABULARY = 3, 32, 4, 7, 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS, "n_positions": 16}
GPT |= {"bos_token_id": 1, "eos_token_id": 2}
GATED = {**SIZES, "intermediate_size": 56, "num_key_value_heads": 2}
NARROW = {**GATED, "head_dim": 6}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 1e4}
WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]
TWO = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
}
LATENT = {**SIZES, "intermediate_size": 56, "moe_intermediate_size": 12, "first_k_dense_replace": 1}
LATENT |= {"n_routed_experts": 8, "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "n_shared_experts": 2}
LATENT |= {"q_lora_rank": 10, "kv_lora_rank": 6, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5}
LATENT |= {"num_key_value_heads": HEADS, "experts_implementation": "eager"}
YARN = {"rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0, "original_max_position_embeddings": 32}
YARN |= {"beta_fast": 4.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
# Name: (configuration, model, its values); windows are shorter than the text, caps near the scores.
MODELS = {
    "bert": ("BertConfig", "BertForMaskedLM", {**SIZES, "intermediate_size": 56}),
    "openai-gpt": ("OpenAIGPTConfig", "OpenAIGPTLMHeadModel", GPT),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**GPT, "n_inner": 56}),
    "opt-pre": ("OPTConfig", "OPTForCausalLM", {**SIZES, "ffn_dim": 56}),
    "opt-post": (
        "OPTConfig",
        "OPTForCausalLM",
        {**SIZES, "ffn_dim": 56, "do_layer_norm_before": False, "word_embed_proj_dim": 20},
    ),
    "llama": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {**GATED, "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 16}, "attention_bias": True},
    ),
    "llama-tied": ("LlamaConfig", "LlamaForCausalLM", {**NARROW, "tie_word_embeddings": True, "mlp_bias": True}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**GATED, "sliding_window": 3}),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", NARROW),
    "gemma2": (
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**NARROW, "sliding_window": 3, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0},
    ),
    "gemma3_text": (
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**NARROW, "sliding_window": 3, "layer_types": WINDOWS, "rope_parameters": TWO},
    ),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", GATED),
    "deepseek_v3": ("DeepseekV3Config", "DeepseekV3ForCausalLM", LATENT),
    "deepseek_v3-yarn": (
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        {**LATENT, "rope_parameters": YARN, "q_lora_rank": None, "rope_interleave": False},
    ),
}
# The same of the types that were added to these: one of each, with what a file of its kind may say.
NOPE = [1, 0, 1]
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 50.0, "factor": 3.0}
SCALED = {
    "rope_type": "yarn",
    "rope_theta": 50.0,
    "factor": 4.0,
    "original_max_position_embeddings": 8,
    "beta_fast": 4.0,
}
SEARCHED = {
    "rope_type": "longrope",
    "rope_theta": 50.0,
    "short_factor": [1.5, 2.0, 3.0],
    "long_factor": [2.0, 4.0, 7.0],
}
PAIRS = {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 0.5}
TURNED = {"rope_type": "linear", "rope_theta": 50.0, "factor": 2.0, "partial_rotary_factor": 0.5}
OF_KINDS = {"sliding_attention": {"rope_type": "default", "rope_theta": 30.0}, "full_attention": SCALED}
SMALL = {**GATED, "max_position_embeddings": 5}  # fewer than the tokens that are read: what is dynamic is
ROUTED = {
    **GATED,
    "moe_intermediate_size": 12,
    "num_experts": 6,
    "num_experts_per_tok": 3,
    "experts_implementation": "eager",
}
BOUNDED = {**NARROW, "num_local_experts": 5, "num_experts_per_tok": 2, "experts_implementation": "eager"}
BOUNDED |= {"sliding_window": 3, "swiglu_limit": 0.5}
LATENT2 = {key: value for key, value in LATENT.items() if key != "first_k_dense_replace"}
V4 = {**SIZES, "moe_intermediate_size": 12, "head_dim": 10, "q_lora_rank": 9, "partial_rotary_factor": 0.4}
V4 |= {"n_routed_experts": 5, "num_experts_per_tok": 2, "experts_implementation": "eager", "swiglu_limit": 0.5}
V4 |= {"sliding_window": 3, "o_groups": 2, "o_lora_rank": 3, "index_n_heads": 3, "index_head_dim": 6, "index_topk": 1}
V4 |= {"compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 3}, "rope_theta": 50.0}
YARN_OF_ENTRIES = {key: value for key, value in SCALED.items() if key != "rope_theta"}
KINDS = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
DISTIL = {"vocab_size": VOCABULARY, "dim": WIDTH, "n_layers": BLOCKS, "n_heads": HEADS, "hidden_dim": 56}
MULTIPLIERS = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 2.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.3,
}
HYBRID = {**ROUTED, "head_dim": 12, "shared_expert_intermediate_size": 10}
HYBRID |= {"layer_types": ["linear_attention", "full_attention", "linear_attention"], "rope_parameters": PAIRS}
HYBRID |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_conv_kernel_dim": 3}
HYBRID |= {"linear_key_head_dim": 6, "linear_value_head_dim": 5}
# On three lanes; two of three blocks of tokens are chosen; memories in the first and the third block, a text that ends within.
ON_LANES = {**HYBRID, "hc_count": 3, "hc_lowrank": 5, "output_gate_type": "sigmoid", "eos_token_id": [18, 2]}
ON_LANES |= {"indexer_n_heads": 3, "indexer_kv_heads": 1, "indexer_head_dim": 8}
ON_LANES |= {"indexer_budget": 4, "indexer_compress_ratio": 2}
ON_LANES |= {"ple_layer_ids": [1, 3], "ple_embed_dim": 12, "ple_conv_kernel_size": 2, "ngram_size": 3}
ON_LANES |= {"heads_per_ngram": 2, "ngram_vocab_size_base": 11}
ON_LANES |= {"make_ngram_vocab_size_divisible_by": 8, "split_ngram_parts": 5}
MODERN = {**SIZES, "intermediate_size": 56, "local_attention": 4, "global_attn_every_n_layers": 2}
MODERN |= {"cls_token_id": 1, "sep_token_id": 2}
FURTHER = {
    "roberta": (
        "RobertaConfig",
        "RobertaForMaskedLM",
        {**SIZES, "intermediate_size": 56, "max_position_embeddings": 20},
    ),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM", {**DISTIL, "max_position_embeddings": 16}),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM", MODERN),
    "modernbert-biased": (
        "ModernBertConfig",
        "ModernBertForMaskedLM",
        {**MODERN, **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**SIZES, "intermediate_size": 56, "rope_parameters": PAIRS}),
    "gpt_neox-serial": (
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        {**SIZES, "intermediate_size": 56, "use_parallel_residual": False, "rope_parameters": TURNED},
    ),
    "gptj": ("GPTJConfig", "GPTJForCausalLM", {**GPT, "n_inner": 56, "rotary_dim": 6}),
    "qwen2": (
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {**GATED, "use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
    "qwen2-yarn": ("Qwen2Config", "Qwen2ForCausalLM", {**GATED, "rope_parameters": SCALED}),
    "llama-dynamic": ("LlamaConfig", "LlamaForCausalLM", {**SMALL, "rope_parameters": DYNAMIC}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**GATED, "sliding_window": 3}),
    "phi3-longrope": (
        "Phi3Config",
        "Phi3ForCausalLM",
        {
            **GATED,
            "rope_parameters": {**SEARCHED, "partial_rotary_factor": 0.75},
            "original_max_position_embeddings": 5,
        },
    ),
    "smollm3": (
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        {**GATED, "no_rope_layers": NOPE, "use_sliding_window": True, "sliding_window": 3},
    ),
    "smollm3-yarn": (
        "SmolLM3Config",
        "SmolLM3ForCausalLM",
        {**GATED, "no_rope_layers": NOPE, "rope_parameters": SCALED},
    ),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {**GATED, **MULTIPLIERS}),
    "olmo": ("OlmoConfig", "OlmoForCausalLM", {**GATED, "clip_qkv": 0.3}),
    "olmo3": (
        "Olmo3Config",
        "Olmo3ForCausalLM",
        {**GATED, "sliding_window": 3, "layer_types": WINDOWS, "rope_parameters": OF_KINDS},
    ),
    "starcoder2": ("Starcoder2Config", "Starcoder2ForCausalLM", {**GATED, "sliding_window": 3}),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM", {**GATED, "sliding_window": 3, "layer_types": WINDOWS}),
    "glm4": ("Glm4Config", "Glm4ForCausalLM", {**GATED, "head_dim": 12}),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", NARROW),
    "mixtral": (
        "MixtralConfig",
        "MixtralForCausalLM",
        {
            **GATED,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 3,
            "experts_implementation": "eager",
        },
    ),
    "gpt_oss": ("GptOssConfig", "GptOssForCausalLM", {**BOUNDED, "rope_parameters": SCALED | {"truncate": False}}),
    "gpt_oss-plain": (
        "GptOssConfig",
        "GptOssForCausalLM",
        {**BOUNDED, "attention_bias": False, "layer_types": WINDOWS[1:] + WINDOWS[1:2], "tie_word_embeddings": True},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**ROUTED, "head_dim": 6, "norm_topk_prob": True}),
    "deepseek_v4": (
        "DeepseekV4Config",
        "DeepseekV4ForCausalLM",
        {**V4, "layer_types": KINDS, "mlp_layer_types": ["hash_moe", "moe", "moe"], "rope_parameters": YARN_OF_ENTRIES},
    ),
    "deepseek_v4-turned": (  # heads that are turned whole, two lanes, blocks that are alike, all entries read
        "DeepseekV4Config",
        "DeepseekV4ForCausalLM",
        {
            **V4,
            "layer_types": [KINDS[1], KINDS[1], KINDS[2]],
            "mlp_layer_types": ["hash_moe", "hash_moe", "moe"],
            "partial_rotary_factor": 1.0,
            "index_head_dim": 10,
            "index_topk": 9,
            "hc_mult": 2,
        },
    ),
    "deepseek_v2": ("DeepseekV2Config", "DeepseekV2ForCausalLM", {**LATENT2, "topk_method": "group_limited_greedy"}),
    "deepseek_v2-yarn": (
        "DeepseekV2Config",
        "DeepseekV2ForCausalLM",
        {**LATENT, "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.5}, "q_lora_rank": None},
    ),
    "qwen3_next": ("Qwen3NextConfig", "Qwen3NextForCausalLM", HYBRID),
    "qwen4_exp_text": ("Qwen4ExpTextConfig", "Qwen4ExpForCausalLM", ON_LANES),
}


def row(name: str):
    """A type as a case: one that was added is further, one that is not installed is skipped with its name."""
    configuration, kind, _ = {**MODELS, **FURTHER}[name]
    there = hasattr(transformers, configuration) and hasattr(transformers, kind)
    marks = [pytest.mark.further] if name in FURTHER else []
    if not there:
        marks.append(pytest.mark.skip(reason=f"transformers {transformers.__version__} has no {name}"))
    return pytest.param(name, marks=marks)


MODELS_HERE = [row(name) for name in (*MODELS, *FURTHER)]
MODELS |= FURTHER
over_models = pytest.mark.parametrize("name", MODELS_HERE)
# How far apart, of the largest entry: logits and loss, gradients.
CLOSE = {"float32": (1e-5, 1e-4), "float64": (1e-9, 1e-9)}
over_precisions = pytest.mark.parametrize("precision", CLOSE)
BATCH = dict(zip(("inputs", "targets"), np.random.default_rng(0).integers(3, VOCABULARY, (2, 2, TOKENS)), strict=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the models are saved."""
    return tmp_path_factory.mktemp("models")


@contextlib.contextmanager
def fixed_precision_is(precision: str):
    """What a model of transformers raises to float32, whatever the precision of its weights, it raises to this."""
    dtype = getattr(torch, precision)
    was = torch.float32, torch.float, torch.Tensor.float
    torch.set_default_dtype(dtype)  # of numbers that a model keeps as tensors: Gemma's √d
    torch.float32 = torch.float = dtype
    torch.Tensor.float = lambda self: self.to(dtype)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = was
        torch.set_default_dtype(torch.float32)


TABLE = "tid2eid"  # which experts a token has, by its number


def made(name: str, precision: str):
    """A model of transformers with random weights, no gain 1 and no bias 0; float32 numbers, whatever the precision."""
    configuration, kind, values = MODELS[name]
    config = getattr(transformers, configuration)(**values, attn_implementation="eager")
    with fixed_precision_is(precision):
        model = getattr(transformers, kind)(config).to(getattr(torch, precision))
    noise = np.random.default_rng(1)
    with torch.no_grad():
        for own in (
            *model.parameters(),
            *(b for n, b in model.named_buffers() if n.endswith("e_score_correction_bias")),
        ):
            around = 1.0 if own.ndim == 1 and own.abs().min() == 1 else 0.0
            drawn = np.float32(around + 0.2 * noise.normal(size=own.shape))
            own.copy_(torch.tensor(drawn, dtype=own.dtype))
        for table in (b for n, b in model.named_buffers() if n.endswith(TABLE)):
            table.copy_(torch.tensor(noise.integers(0, 5, table.shape)))
    return model.eval()


def blocks_of(model):
    """The modules between which the stream is."""
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == BLOCKS)


@cache
def theirs(name: str, precision: str) -> dict:
    """Logits, loss, the gradients of all parameters by their names, and of the stream [L + 1, B, T, d]."""
    model, stream = made(name, precision), []

    def note(tensor):
        tensor.retain_grad()
        stream.append(tensor)

    blocks = blocks_of(model)
    blocks[0].register_forward_pre_hook(lambda _, inputs: note(inputs[0]))
    for block in blocks:
        block.register_forward_hook(lambda _, inputs, output: note(output if torch.is_tensor(output) else output[0]))
    inputs, targets = (torch.tensor(BATCH[k]) for k in ("inputs", "targets"))
    with fixed_precision_is(precision):
        logits = model(input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
    return {
        "model": model,
        "logits": logits.detach().numpy(),
        "loss": float(loss.detach()),
        "stream": np.stack([x.grad.numpy() for x in stream]),
        "grads": renamed(
            name, apart_by_tensor(name, {n: gradient(p) for n, p in model.named_parameters()} | untrained(model))
        ),
    }


def gradient(parameter):
    """The gradient of a parameter; zeros of one that the loss does not reach: what makes a choice."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def untrained(model) -> dict:
    """What is saved with a model and has no gradient: the numbers that balance the load of experts, a table of choices."""
    return {n: 0 * b for n, b in model.named_buffers() if n.endswith(("e_score_correction_bias", TABLE))}


# What has another name in a file than in the library's memory.
RENAMED = {
    "deepseek_v4": {
        ".compressor.indexer.scorer.weights_proj.": ".indexer.weights_proj.",
        ".compressor.indexer.q_b_proj.": ".indexer.wq_b.",
        ".compressor.indexer.": ".indexer.compressor.",
        ".self_attn.": ".attn.",
        ".sinks": ".attn_sink",
        ".position_bias": ".ape",
        ".kv_norm.": ".norm.",
        ".q_a_norm.": ".q_norm.",
        ".q_a_proj.": ".wq_a.",
        ".q_b_proj.": ".wq_b.",
        ".kv_proj.": ".wkv.",
        ".attn.compressor.gate_proj.": ".attn.compressor.wgate.",
        ".indexer.compressor.gate_proj.": ".indexer.compressor.wgate.",
        ".o_a_proj.": ".wo_a.",
        ".o_b_proj.": ".wo_b.",
        ".input_layernorm.": ".attn_norm.",
        ".post_attention_layernorm.": ".ffn_norm.",
        ".attn_hc.": ".hc_attn_",
        ".ffn_hc.": ".hc_ffn_",
        ".mlp.": ".ffn.",
        ".gate.e_score_correction_bias": ".gate.bias",
        ".gate_proj.": ".w1.",
        ".down_proj.": ".w2.",
        ".up_proj.": ".w3.",
        "lm_head.": "head.",
    },
    "gpt_neox": {"lm_head.": "embed_out."},
    "mixtral": {".mlp.": ".block_sparse_moe.", ".gate_proj.": ".w1.", ".down_proj.": ".w2.", ".up_proj.": ".w3."},
}


def renamed(kind: str, grads: dict) -> dict[str, np.ndarray]:
    """The gradients by the names that files have."""
    found = {}
    for name, grad in grads.items():
        for here, there in RENAMED.get(kind.split("-")[0], {}).items():
            name = name.replace(here, there)
        found[name] = grad
    return found


STACKED = ("gpt_oss",)  # whose files have the matrices of all experts in one tensor, as memory does


def apart_by_tensor(model: str, grads: dict) -> dict[str, np.ndarray]:
    """The gradients by the names that files have: matrices of experts, and parts of a table, one in memory, are apart there."""
    found = {}
    for name, grad in ((name, grad.detach().numpy()) for name, grad in grads.items()):
        stem, _, kind = name.rpartition(".experts.")
        if model.startswith(STACKED):
            stem = ""
        if name.endswith(".ngram_embedding.weight"):
            parts = map(np.asarray, torch.chunk(torch.tensor(grad), ON_LANES["split_ngram_parts"]))
            found |= {name.replace(".weight", f".shard_{i}.weight"): part for i, part in enumerate(parts)}
            continue
        if not stem:
            found[name] = grad
        for i, one in enumerate(grad if stem else ()):
            gate_up = zip(("gate_proj", "up_proj"), np.split(one, 2), strict=True)
            parts = gate_up if kind == "gate_up_proj" else [("down_proj", one)]
            found |= {f"{stem}.experts.{i}.{part}.weight": matrix for part, matrix in parts}
    return found


@cache
def ours(name: str, precision: str, folder: Path) -> dict:
    """The same, read from what transformers saved."""
    own = folder / name / precision
    theirs(name, precision)["model"].save_pretrained(own)
    model, params = gf.checkpoint(own, precision="float64" if precision == "float64" else None)
    batch = jax.tree.map(jnp.asarray, BATCH)
    numbers = model.stack.layer_numbers
    stream = jax.eval_shape(
        lambda params, inputs: model.enter(model.with_context(params, inputs), inputs), params, BATCH["inputs"][0]
    )
    zeros = jnp.zeros((2, len(numbers), *stream.shape), precision)

    def nudged(params, nudges, tops):
        """The loss, and the logits, with something added to the stream."""
        visit = lambda x, parts, nudge: (residual(x + nudge, parts), None)

        def example(inputs, targets, nudges, top):
            used = model.with_context(params, inputs)
            x, _ = walk(model.stack, used["stack"], model.enter(used, inputs), visit, nudges)
            out = model.leave(used, x + top)
            return model.loss(used, out, targets), model.logits(used, out)

        losses, logits = jax.vmap(example)(batch["inputs"], batch["targets"], nudges, tops)
        return losses.mean(), logits

    program = jax.jit(jax.value_and_grad(nudged, (0, 1, 2), has_aux=True))
    (loss, logits), (grads, nudges, tops) = jax.device_get(program(params, zeros, zeros[:, 0]))
    at_blocks = np.unique(numbers, return_index=True)[1]
    stream = np.concatenate([np.moveaxis(nudges, 1, 0)[at_blocks], tops[None]])
    found = {"model": model, "params": params, "batch": batch, "config": Config(json_of(own / "config.json"))}
    return {**found, "loss": loss, "logits": logits, "grads": grads, "stream": stream}


def apart(ours, theirs, scale=None) -> float:
    """The largest difference, of the largest entry."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(abs(ours - theirs).max() / (scale or abs(theirs).max()))


@over_precisions
@over_models
def test_logits_and_loss_are_those_of_transformers(name, precision, folders):
    own, other = ours(name, precision, folders), theirs(name, precision)
    close, _ = CLOSE[precision]
    assert apart(own["logits"], other["logits"]) < close
    assert float(own["loss"]) == pytest.approx(other["loss"], rel=close)


@over_precisions
@over_models
def test_the_gradient_of_every_entry_of_the_stream_is_that_of_transformers(name, precision, folders):
    own, other = ours(name, precision, folders)["stream"], theirs(name, precision)["stream"]
    if own.ndim == 5:
        own = own.swapaxes(2, 3)
    if own.ndim > other.ndim and own.size > other.size:
        own = own[
            ..., 0, :
        ]  # of several lanes, where theirs has one, the first: the others are forgotten between blocks
    own = own.reshape(other.shape)  # theirs may have lanes side by side
    assert len(own) == BLOCKS + 1
    assert max(apart(a, b) for a, b in zip(own, other, strict=True)) < CLOSE[precision][1]


@over_precisions
@over_models
def test_the_gradient_of_every_parameter_is_that_of_transformers(name, precision, folders):
    own, other = ours(name, precision, folders), theirs(name, precision)["grads"]
    layout = FAMILIES[own["config"].get("model_type")](own["config"])[1]
    shapes = leaves(jax.eval_shape(lambda: own["params"]))
    names = lambda leaf, key: [layout.table[key].names(block) for block in leaf.blocks or (0,)]
    shape = lambda leaf: (len(leaf.blocks or (0,)), *leaf.shape)  # a number is an array of one in a file
    grads = lambda leaf, key: np.stack([layout.table[key]([other[n] for n in own]) for own in names(leaf, key)])
    for leaf, grad in zip(shapes, summed(shapes, jax.tree.leaves(own["grads"]), layout), strict=True):
        by = alike(leaf.name) if alike(leaf.name) in layout.table else leaf.name
        scale = abs(grads(leaf, by)).max() or 1.0
        found = grad if leaf.blocks is not None else grad[None]
        if leaf.name in UNREACHED:
            assert not found.any()
            continue
        near = STEEP.get(name, 1) * CLOSE[precision][1]
        assert apart(found, grads(leaf, leaf.name).reshape(shape(leaf)), scale) < near, leaf.name
    seen = {name for leaf in shapes for block in names(leaf, leaf.name) for name in block}
    assert seen == set(other)


def alike(name: str) -> str:
    """The parameter by whose gradient that of this one is measured: itself, unless its own may be rounding alone.

    A softmax does not see a shift of its scores that all keys share: the bias of keys. Of lanes that are one stream at the bottom
    a balanced mixture is that stream, and a norm does not see how much of it is read: what mixes and reads them.
    """
    return name.replace("key.bias", "query.bias").replace(".read.", ".write.").replace(".skip.", ".write.")


UNREACHED = ("experts.table", *(f"attention.{name}" for name in ("index", "index_gate", "index_place")))
UNREACHED += ("attention.index_query", "attention.index_weight", "attention.index_norm.scale")
STEEP = {"qwen4_exp_text": 10}  # the root in front of a memory's gate has any slope near 0: rounding is so much larger


def summed(shapes, grads, layout) -> list:
    """Ours, where several parameters are of one tensor their sum: GPT-J's norm is one for both branches."""
    of = [(layout.table[leaf.name], leaf.blocks) for leaf in shapes]
    return [sum(grad for other, grad in zip(of, grads, strict=True) if other == one) for one in of]


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma3_text", "olmo2"])  # one of each placement
def test_the_meters_read_the_stream_gradients_of_transformers(name, folders):
    own, g = ours(name, "float64", folders), theirs(name, "float64")["stream"]
    read = jax.jit(lambda p, b: gradients.economy(own["model"], p, b))(own["params"], own["batch"])
    at_blocks = slice(None, None, 2)
    lengths = np.linalg.norm(g.reshape(len(g), -1), axis=1)
    np.testing.assert_allclose(read["stream_gradient"][at_blocks], lengths, rtol=1e-9)
    np.testing.assert_allclose(
        read["stream_gradient_by_token"][at_blocks], np.sqrt((g**2).sum((1, 3))), rtol=1e-9, atol=1e-15
    )


@over_models
def test_what_is_read_of_attention_by_head_is_that_of_transformers_probabilities(name, folders):
    own, model = ours(name, "float64", folders), theirs(name, "float64")["model"]
    with fixed_precision_is("float64"):
        found = model(input_ids=torch.tensor(BATCH["inputs"]), output_attentions=True).attentions
    most = max(layer.shape[-1] for layer in found)
    beyond = [(0, 0)] * 3
    p = np.stack([np.pad(p.detach().numpy(), (*beyond, (0, most - p.shape[-1]))) for p in found])  # [L, B, H, T, S]
    entropies = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
    keys = (p > 0).sum(-1)  # those a query sees
    shares = np.where(keys > 1, entropies / np.log(np.maximum(keys, 2)), np.nan)
    read = jax.jit(lambda p, b: attention.by_head(own["model"], p, b))(own["params"], own["batch"])
    kinds = np.array([sub.kind for sub in own["model"].stack.sublayers])
    expected = {
        "attention_entropy": entropies.mean((1, 3)),
        "attention_entropy_share": np.nanmean(shares, (1, 3)),
        "attention_first_token": p[..., 0].mean((1, 3)),
    }
    for quantity, values in expected.items():
        np.testing.assert_allclose(read[quantity][kinds == "attention"], values, rtol=1e-9, err_msg=quantity)


PADDED = [
    pytest.param(*row(name).values, side, marks=row(name).marks)
    for name in ("gpt2", "llama", "mistral", "deepseek_v3", "bert", "gpt_oss", "qwen3_next", "qwen4_exp_text")
    for side in ("left", "right")
]
PADDED.append(
    pytest.param("deepseek_v4", "right", marks=pytest.mark.further)
)  # on the left it counts windows from padding


@pytest.mark.parametrize(("name", "side"), PADDED)
def test_padded_texts_have_the_logits_of_transformers_with_its_mask(name, side, folders):
    own, lengths = folders / f"{name}-padded-{side}", (4, TOKENS)
    model = made(name, "float64")
    model.save_pretrained(own)
    read, params = gf.checkpoint(own, precision="float64")
    place = np.arange(TOKENS)
    mask = np.stack([place >= TOKENS - n if side == "left" else place < n for n in lengths]).astype(int)
    batch = checked({**BATCH, "attention_mask": mask}, {"m": read})
    logits = jax.jit(jax.vmap(read, (None, 0)))(params, batch["inputs"])
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    with fixed_precision_is("float64"), torch.no_grad():
        given = {"input_ids": BATCH["inputs"], "attention_mask": mask, "position_ids": positions}
        expected = model(**{key: torch.tensor(array) for key, array in given.items()}).logits.numpy()
    real = mask == 1
    assert apart(np.asarray(logits)[real], expected[real]) < 1e-9
    assert not np.allclose(expected[~real], np.asarray(logits)[~real])  # what stands on padding means nothing


def test_the_types_of_tokens_are_those_of_transformers(folders):
    own, types = folders / "bert-types", np.arange(2 * TOKENS).reshape(2, TOKENS) // 5 % 2
    model = made("bert", "float64")
    model.save_pretrained(own)
    read, params = gf.checkpoint(own, precision="float64")
    batch = checked({**BATCH, "token_type_ids": types}, {"m": read})
    logits = jax.jit(jax.vmap(read, (None, 0)))(params, batch["inputs"])
    with fixed_precision_is("float64"), torch.no_grad():
        given = {"input_ids": BATCH["inputs"], "token_type_ids": types}
        expected = model(**{key: torch.tensor(array) for key, array in given.items()}).logits.numpy()
    assert apart(np.asarray(logits), expected) < 1e-9
    with pytest.raises(ValueError, match="token_type_ids has 0 to 3, and m has 2 types: leave them out"):
        checked({**BATCH, "token_type_ids": 3 * types}, {"m": read})


@pytest.mark.further
def test_numbers_of_4_bits_are_those_of_transformers():
    module = pytest.importorskip("transformers.integrations.mxfp4")
    noise = np.random.default_rng(0)
    blocks, scales = (
        noise.integers(0, most, shape, np.uint8) for most, shape in ((256, (2, 5, 3, 16)), (250, (2, 5, 3)))
    )
    expected = module.convert_moe_packed_tensors(torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32)
    np.testing.assert_array_equal(Packed(Plain(blocks), Plain(scales))[:], expected.numpy())


class Plain:
    """An array as a tensor of a file."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, "U8"

    def __getitem__(self, index):
        return self.array[index]


def test_every_model_type_that_is_read_is_compared():
    kinds = {getattr(transformers, configuration).model_type for configuration, _, _ in MODELS.values()}
    assert kinds | {"qwen4_exp", *OF_TWO_SEQUENCES} == set(FAMILIES)


@pytest.mark.further
def test_the_text_model_of_one_that_reads_pictures_is_that_model(folders):
    """Qwen4-Exp with a tower of pictures, whose tensors are said to be ignored."""
    own = folders / "qwen4_exp"
    pictures = {"depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 2, "out_hidden_size": WIDTH}
    pictures |= {"num_position_embeddings": 4, "patch_size": 2}
    eager = dict.fromkeys(("attn_implementation", "experts_implementation"), "eager")
    config = transformers.Qwen4ExpConfig(text_config=ON_LANES, vision_config=pictures, **eager)
    with fixed_precision_is("float64"):
        model = transformers.Qwen4ExpForConditionalGeneration(config).to(torch.float64).eval()
        with torch.no_grad():
            expected = model(input_ids=torch.tensor(BATCH["inputs"])).logits.numpy()
    model.save_pretrained(own)
    with pytest.warns(UserWarning, match="ignored: model.visual"):
        read, params = gf.checkpoint(own, precision="float64")
    assert apart(jax.jit(jax.vmap(partial(read, params)))(BATCH["inputs"]), expected) < 1e-9


# ---- what an example begins with ----------------------------------------------------------------------------


def tokenizer_of(folder: Path, template: str):
    """Theirs, of one letter a token, saved in a folder with the rule of what is put around a text."""
    library = pytest.importorskip("tokenizers", reason="texts need tokenizers: pip install -e '.[hf]'")
    words = {"?": 0, "<s>": 1, "</s>": 2, "<mask>": 3, **{chr(ord("a") + i): 4 + i for i in range(26)}}
    own = library.Tokenizer(library.models.WordLevel(words, unk_token="?"))
    own.pre_tokenizer = library.pre_tokenizers.Split("", "isolated")
    own.add_special_tokens(["<s>", "</s>", "<mask>"])
    own.post_processor = library.processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    whole = transformers.PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", mask_token="<mask>")
    whole.save_pretrained(folder)
    return whole


def opened_beside(name: str, template: str, folder: Path):
    """Their model and tokenizer, and what is opened here of the same folder, with a text of 400 letters."""
    model = made(name, "float32")
    model.save_pretrained(folder)
    (folder / "text").write_text("".join(chr(ord("a") + (i * i + i // 7) % 26) for i in range(400)))
    theirs = tokenizer_of(folder, template)
    return model, theirs, trained.opened(folder, text=folder / "text", context=TOKENS, batch=3)


def test_the_loss_of_an_example_that_begins_is_that_of_transformers_tokenizer_and_model(tmp_path):
    """Their labels are the inputs: what is in front is read and never asked for."""
    model, tokenizer, own = opened_beside("llama", "<s> $A </s>", tmp_path)
    batch = own.text.batch(0, 0)
    losses = []
    for targets in np.asarray(batch["targets"]):
        text = "".join(tokenizer.convert_ids_to_tokens(targets))
        ids = torch.tensor([tokenizer(text).input_ids[:-1]])  # an example ends within the text
        losses.append(float(model(input_ids=ids, labels=ids).loss.detach()))
    single = jax.vmap(lambda inputs, targets: own.model.loss(own.params, forward(own, inputs), targets))
    np.testing.assert_allclose(single(batch["inputs"], batch["targets"]), losses, rtol=1e-5)
    assert np.asarray(batch["inputs"])[:, 0].tolist() == [1, 1, 1]
    plain = trained.opened(tmp_path, text=tmp_path / "text", context=TOKENS, batch=3, begin="none").text.batch(0, 0)
    np.testing.assert_array_equal(plain["inputs"][:, :-1], batch["inputs"][:, 1:])


def test_a_bert_between_its_marks_reads_what_transformers_tokenizer_makes(tmp_path):
    model, tokenizer, own = opened_beside("bert", "<s> $A </s>", tmp_path)
    batch = jax.tree.map(np.asarray, own.text.batch(0, 0))
    asked = batch["targets"] >= 0
    texts = np.where(asked, batch["targets"], batch["inputs"])
    losses = []
    for inputs, targets, text in zip(batch["inputs"], batch["targets"], texts, strict=True):
        assert tokenizer("".join(tokenizer.convert_ids_to_tokens(text[1:-1]))).input_ids == text.tolist()
        labels = torch.tensor(np.where(targets < 0, -100, targets)[None], dtype=torch.int64)
        losses.append(float(model(input_ids=torch.tensor(inputs[None]), labels=labels).loss.detach()))
    single = jax.vmap(lambda inputs, targets: own.model.loss(own.params, forward(own, inputs), targets))
    np.testing.assert_allclose(single(batch["inputs"], batch["targets"]), losses, rtol=1e-5)
    assert asked.sum(1).tolist() == [1, 1, 1]
    assert own.text.mask == 3


def forward(own, tokens):
    """What leaves the stack."""
    through = lambda x, parts, _: (sublayer(x, **parts), None)
    x, _ = walk(own.model.stack, own.params["stack"], own.model.enter(own.params, tokens), through)
    return own.model.leave(own.params, x)


# ---- every value of a configuration -------------------------------------------------------------------------

OTHERS = {  # another value of each kind
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: 2 * value,
    str: lambda value: "relu",
    list: lambda value: value[::-1],
    type(None): lambda value: 1,
    dict: lambda value: {"rope_type": "linear", "factor": 2.0},
}
NEIGHBOURS = {
    "sliding_window": 3,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "use_sliding_window": True,
    "max_window_layers": 1,
    "rope_theta": 50.0,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "partial_rotary_factor": 0.5,
    "rope_local_base_freq": 30.0,
    "sliding_window_pattern": 2,
    "n_ctx": 5,
    "hidden_act": "gelu",
    "attn_logit_softcapping": 1.0,
    "query_pre_attn_scalar": 7,
    "residual_multiplier": 2.0,
    "norm_topk_prob": False,
    "rope_interleave": False,
    "scale_attn_weights": False,
}


def logits_of(name: str, model, values: dict):
    """Theirs of a configuration with these values and the same weights; None where they refuse them."""
    configuration, kind, _ = MODELS[name]
    try:
        config = getattr(transformers, configuration).from_dict(values)
        config._attn_implementation = "eager"
        other = getattr(transformers, kind)(config).eval()
        if other.load_state_dict(model.state_dict(), strict=False).missing_keys:
            return None
        with torch.no_grad():
            return other(input_ids=torch.tensor(BATCH["inputs"])).logits.numpy()
    except Exception:  # of whatever their classes do with it
        return None


@pytest.mark.filterwarnings("ignore")
@over_models
def test_every_value_of_a_configuration_is_refused_or_computed_as_transformers_does(name, folders):
    """Each of the default configuration, and of the neighbours', changed in turn."""
    model, own, run, right = made(name, "float32"), folders / "values" / name, {}, 0
    model.save_pretrained(own)
    plain, path = json_of(own / "config.json"), own / "config.json"
    default = getattr(transformers, MODELS[name][0])().to_dict()
    keys = dict.fromkeys(
        key for key in (*default, *plain, *NEIGHBOURS) if key not in HARMLESS - {"pad_token_id", "prefix"}
    )
    for key in keys:
        was = plain.get(key, default.get(key))
        for value in (OTHERS[type(was)](was), NEIGHBOURS.get(key)):
            path.write_text(json.dumps({**plain, key: value}))
            try:
                architecture = repr(pretrained.described(Config(json_of(path))))
                if architecture not in run:
                    read, params = gf.checkpoint(own)
                    run[architecture] = np.asarray(jax.jit(jax.vmap(partial(read, params)))(BATCH["inputs"]))
            except ValueError:
                continue
            found = logits_of(name, model, {**plain, key: value})
            if found is not None:
                assert apart(run[architecture], found) < 1e-4, (key, value)
                right += 1
    assert right > 5
