"""What a config.json says, value by value: what changes the model is read or refused by name, what changes nothing is let be.

No library is needed: `test_checkpoints_oracle.py` has what transformers computes with the same values.
"""

import json
import math

import numpy as np
import pytest
from interop_files import CONFIGS, FURTHER, saved

from gradflow.interop.pretrained import described
from gradflow.interop.pretrained.configs import Config
from gradflow.interop.pretrained.files import DEEPEST, json_of
from gradflow.interop.pretrained.metadata import CLASSES, HARMLESS
from gradflow.model.branches.rotary import Rotary, Yarn
from gradflow.model.parameters.depth import ByBlock

SLIDING, FULL = ["sliding_attention"] * 2, ["full_attention"] * 2
LINEAR = {"rope_type": "linear", "factor": 2.0}
EVERY = tuple(CONFIGS)
GATED = ("llama", "mistral", "qwen3", "olmo2")
CAPPED = ("gemma2", "gemma3_text")
ROTARY = (*GATED, *CAPPED)

# Families, and a value that none of them computes with, or only one that nothing here does: all are refused by name.
REFUSED = [
    (EVERY, "residual_multiplier", 0.2),
    (EVERY, "embedding_multiplier", 3.0),
    (EVERY, "logits_scaling", 2.0),
    (EVERY, "clip_qkv", 0.1),
    (EVERY, "no_rope_layers", [1, 0]),
    (EVERY, "attn_temperature_tuning", True),
    (EVERY, "mystery", 0),
    (EVERY, "mystery", False),
    (EVERY, "mystery", ""),
    (EVERY, "is_decoder", True),
    (EVERY, "is_encoder_decoder", True),
    (EVERY, "add_cross_attention", True),
    (EVERY, "pruned_heads", {"0": [1]}),
    (EVERY, "quantization_config", {"quant_method": "fp8"}),
    (EVERY, "auto_map", {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}),
    (EVERY, "auto_map", "modeling_own.OwnForCausalLM"),
    (EVERY, "architectures", ["OwnForCausalLM"]),
    (EVERY, "architectures", "OwnForCausalLM"),
    (EVERY, "architectures", [3]),
    (EVERY, "layer_types", ["chunked_attention"] * 2),
    (EVERY, "vocab_size", None),
    (("bert", "openai-gpt", "gpt2", "opt-pre", "llama", "olmo2", "deepseek_v3"), "sliding_window", 3),
    (("bert", "openai-gpt", "gpt2", "opt-pre", "llama", "olmo2", "gemma2", "deepseek_v3"), "use_sliding_window", True),
    (("bert", "openai-gpt", "gpt2", "opt-pre", "deepseek_v3"), "layer_types", FULL),
    (("llama", "olmo2"), "layer_types", SLIDING),
    (("mistral",), "layer_types", FULL),
    (("mistral", "llama", "gemma2"), "max_window_layers", 1),
    (("qwen3",), "layer_types", SLIDING),
    (CAPPED, "sliding_window", None),
    (CAPPED, "num_key_value_heads", None),
    (CAPPED, "use_bidirectional_attention", True),
    (CAPPED, "hidden_act", "silu"),
    (CAPPED, "tie_word_embeddings", False),
    (CAPPED, "tie_word_embeddings", None),
    (("openai-gpt", "gpt2", "opt-pre"), "hidden_act", "gelu_new"),
    (("openai-gpt", "gpt2"), "n_ctx", 5),
    (("openai-gpt",), "n_special", 3),
    (("gpt2",), "scale_attn_by_inverse_layer_idx", True),
    (("bert",), "position_embedding_type", "relative_key_query"),
    (("bert",), "directionality", "left"),
    (("opt-pre", "opt-post"), "_remove_final_layer_norm", True),
    (("opt-pre",), "layer_norm_eps", 0.5),
    (ROTARY, "partial_rotary_factor", 0.5),
    (ROTARY, "rope_scaling", {"rope_type": "ntk", "factor": 2.0}),
    (ROTARY, "rope_scaling", {"rope_type": "default", "factor": 2.0}),
    (ROTARY, "rope_scaling", LINEAR | {"type": "llama3"}),
    (ROTARY, "rope_scaling", LINEAR | {"attention_factor": 2.0}),
    (ROTARY, "rope_scaling", LINEAR | {"factor": 10**400}),
    (ROTARY, "rope_scaling", LINEAR | {"partial_rotary_factor": 0.5}),
    (("gemma2", "llama"), "rope_local_base_freq", 30.0),
    (("gemma3_text",), "attn_logit_softcapping", 1.5),
    (("gemma3_text",), "_sliding_window_pattern", 2),
    (("gemma3_text",), "rope_parameters", LINEAR),
    (("gemma3_text",), "rope_parameters", {"full_attention": LINEAR, "factor": 2.0}),
    (("gemma3_text",), "rope_scaling", {"full_attention": LINEAR}),
    (("llama", "gemma2"), "rope_parameters", {"full_attention": LINEAR}),
    (("deepseek_v3",), "head_dim", 6),
    (("deepseek_v3",), "qk_head_dim", 6),
    (("deepseek_v3",), "norm_topk_prob", False),
    (("deepseek_v3",), "scoring_func", "softmax"),
    (("deepseek_v3",), "moe_layer_freq", 2),
]
# Values that are read: the architecture is another one.
READ = [
    (("llama", "mistral", "olmo2", "qwen3"), "rms_norm_eps", 0.5),
    (("llama", "mistral", "olmo2", "qwen3"), "hidden_act", "gelu"),
    (("llama", "mistral", "olmo2", "qwen3"), "tie_word_embeddings", True),
    (("llama", "mistral", "olmo2"), "head_dim", 6),
    (("llama", "olmo2", "qwen3"), "attention_bias", True),
    (("llama",), "mlp_bias", True),
    (GATED, "num_key_value_heads", 2),
    (GATED, "num_key_value_heads", None),
    ((*GATED, "gemma2"), "rope_theta", 50.0),
    ((*GATED, "gemma2"), "rope_scaling", LINEAR),
    (GATED, "rope_parameters", LINEAR),
    (("mistral", "gemma2", "gemma3_text"), "sliding_window", 3),
    (("mistral",), "sliding_window", None),
    (CAPPED, "layer_types", ["full_attention", "sliding_attention"]),
    (CAPPED, "query_pre_attn_scalar", 7),
    (("gemma2",), "attn_logit_softcapping", 1.5),
    (CAPPED, "final_logit_softcapping", 1.5),
    (("gemma3_text",), "rope_local_base_freq", 30.0),
    (("gemma3_text",), "sliding_window_pattern", 2),
    (("bert",), "layer_norm_eps", 0.5),
    (("bert",), "hidden_act", "relu"),
    (("gpt2",), "scale_attn_weights", False),
    (("gpt2",), "activation_function", "relu"),
    (("openai-gpt",), "afn", "relu"),
    (("openai-gpt", "gpt2"), "layer_norm_epsilon", 0.5),
    (("opt-pre", "opt-post"), "activation_function", "gelu"),
    (("deepseek_v3",), "routed_scaling_factor", 1.0),
    (("deepseek_v3",), "q_lora_rank", None),
    (("deepseek_v3",), "num_experts_per_tok", 1),
]
# Values that change nothing, of names that could.
LET_BE = [
    (EVERY, "mystery", None),
    (EVERY, "architectures", []),
    (EVERY, "architectures", None),
    (EVERY, "pruned_heads", {}),
    (EVERY, "is_decoder", False),
    (EVERY, "tie_encoder_decoder", False),
    (("llama", "olmo2"), "layer_types", FULL),
    (("llama", "olmo2"), "sliding_window", None),
    (("llama", "olmo2"), "use_sliding_window", False),
    (("mistral",), "layer_types", SLIDING),
    (("qwen3",), "sliding_window", 3),
    (("qwen3",), "max_window_layers", 1),
    (("qwen3",), "layer_types", FULL),
    (("qwen3",), "use_sliding_window", True),
    (CAPPED, "hidden_act", "gelu_pytorch_tanh"),
    (CAPPED, "use_bidirectional_attention", None),
    (ROTARY, "rope_scaling", None),
    (ROTARY, "rope_scaling", {"rope_type": "default"}),
    (ROTARY, "partial_rotary_factor", 1.0),
    (("openai-gpt", "gpt2"), "n_ctx", 6),
    (("openai-gpt", "gpt2"), "summary_type", "mean"),
    (("gpt2",), "reorder_and_upcast_attn", True),
    (("gpt2",), "n_inner", 32),
    (("bert",), "pooler_type", "first_token_transform"),
    (("llama",), "pretraining_tp", 2),
    (("deepseek_v3",), "pretraining_tp", 1),
    (("deepseek_v3",), "num_nextn_predict_layers", 1),
    (("deepseek_v3",), "aux_loss_alpha", 0.1),
    (("deepseek_v3",), "head_dim", 4),
    (("deepseek_v3",), "qk_head_dim", 10),
    (("gemma3_text",), "_sliding_window_pattern", 6),
    (("opt-pre",), "word_embed_proj_dim", None),
]


def read(name: str, **changed):
    """What is read of a configuration with these values: the architecture, and where its parameters are."""
    return described(Config({**CONFIGS[name], **changed}))


def refusal(name: str, **changed) -> str:
    """What the error says; empty where there is none."""
    try:
        read(name, **changed)
    except ValueError as error:
        return str(error)
    return ""


def cases(table) -> list:
    """One case a family."""
    return [
        pytest.param(name, key, value, id=f"{name} {key}={str(value)[:30]}")
        for names, key, value in table
        for name in names
    ]


@pytest.mark.parametrize(("name", "key", "value"), cases(REFUSED))
def test_a_value_that_would_be_lost_is_refused_by_name(name, key, value):
    with pytest.raises(ValueError, match=key if key != "rope_scaling" else "rope_scaling|rope_type|factor") as refusal:
        read(name, **{key: value})
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(("name", "key", "value"), cases(READ))
def test_a_value_that_changes_the_model_is_read(name, key, value):
    assert read(name, **{key: value}) != read(name)


@pytest.mark.parametrize(("name", "key", "value"), cases(LET_BE))
def test_a_value_that_changes_nothing_is_let_be(name, key, value):
    assert read(name, **{key: value}) == read(name)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_said_beside_the_model_is_let_be(name):
    plain = read(name)
    for key in HARMLESS:
        for value in (True, 3, "word", [1], {"a": 1}):
            assert read(name, **{key: value}) == plain


def test_whose_model_it_is_is_read_from_the_names_of_its_classes():
    """The check that tells a neighbour whose tensors and values are the same: LLaMA and Mistral."""
    own = {
        "bert": "BertForMaskedLM",
        "openai-gpt": "OpenAIGPTLMHeadModel",
        "gpt2": "GPT2LMHeadModel",
        "opt": "OPTForCausalLM",
        "llama": "LlamaForCausalLM",
        "mistral": "MistralForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "gemma2": "Gemma2ForCausalLM",
        "gemma3_text": "Gemma3ForCausalLM",
        "olmo2": "Olmo2ForCausalLM",
        "roberta": "RobertaForMaskedLM",
        "distilbert": "DistilBertForMaskedLM",
        "modernbert": "ModernBertForMaskedLM",
        "gpt_neox": "GPTNeoXForCausalLM",
        "gptj": "GPTJForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
        "phi3": "Phi3ForCausalLM",
        "smollm3": "SmolLM3ForCausalLM",
        "granite": "GraniteForCausalLM",
        "olmo": "OlmoForCausalLM",
        "olmo3": "Olmo3ForCausalLM",
        "starcoder2": "Starcoder2ForCausalLM",
        "cohere2": "Cohere2ForCausalLM",
        "glm4": "Glm4ForCausalLM",
        "gemma": "GemmaForCausalLM",
        "mixtral": "MixtralForCausalLM",
        "qwen3_moe": "Qwen3MoeForCausalLM",
        "gpt_oss": "GptOssForCausalLM",
        "deepseek_v2": "DeepseekV2ForCausalLM",
        "deepseek_v3": "DeepseekV3ForCausalLM",
        "deepseek_v4": "DeepseekV4ForCausalLM",
        "qwen3_next": "Qwen3NextForCausalLM",
        "qwen4_exp_text": "Qwen4ExpForCausalLM",
        "qwen4_exp": "Qwen4ExpForConditionalGeneration",
        "t5": "T5ForConditionalGeneration",
    }
    assert set(own) == set(CLASSES)
    for name, config in CONFIGS.items():
        for kind, heads in own.items():
            code = {"AutoConfig": f"configuration_x.{heads}", "AutoTokenizer": [f"x--y.{heads}", None]}
            if kind == config["model_type"]:
                read(name, architectures=[heads], auto_map={"AutoModel": f"modeling.{heads}"})
            else:
                with pytest.raises(
                    ValueError, match=f"architectures is .*those of model_type {config['model_type']} are"
                ):
                    read(name, architectures=[heads])
                with pytest.raises(ValueError, match="auto_map is "):
                    read(name, auto_map=code)
    for other in (
        "Qwen3MoeForCausalLM",
        "LlamaBidirectionalModel",
        "MistralBiModel",
        "XLlamaForCausalLM",
        "Llama4ForCausalLM",
    ):
        for name in ("llama", "qwen3", "mistral"):
            with pytest.raises(ValueError, match="architectures is "):
                read(name, architectures=[other])


def test_a_rotation_that_is_given_twice_says_the_same_both_times():
    assert read("llama", rope_scaling=LINEAR, rope_parameters=LINEAR) == read("llama", rope_scaling=LINEAR)
    with pytest.raises(ValueError, match="rope_scaling is .*rope_parameters says something else"):
        read("llama", rope_scaling=LINEAR, rope_parameters=LINEAR | {"factor": 3.0})
    with pytest.raises(ValueError, match="rope_theta is 50.0; .*rope_parameters has another"):
        read("llama", rope_theta=50.0, rope_parameters=LINEAR | {"rope_theta": 60.0})
    assert read("llama", rope_theta=60.0, rope_parameters={"rope_theta": 60.0}) == read("llama", rope_theta=60.0)


NUMBERS = (0, -1, 1.5, True, "8", [8], {"a": 8}, None, 2**40, 10**400, float("nan"), float("inf"), "x" * 1000)


@pytest.mark.parametrize("name", EVERY)
def test_a_number_of_the_wrong_kind_is_one_line(name):
    """Every size, eps and base in turn; also of values that no number is expected for."""
    refused = 0
    for key in CONFIGS[name]:
        for value in NUMBERS:
            line = refusal(name, **{key: value})
            refused += line != ""
            assert "\n" not in line
            assert len(line) < 400
            assert line or isinstance(value, int | None)
    assert refused > 8 * len(CONFIGS[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"\xff\xfe{\x00}\x00", "is not JSON: 'utf-8' codec"),
        (b"\x80\x04.", "is not JSON"),
        (b"[]", "holds a list: a JSON object is expected"),
        (b"null", "holds a NoneType"),
        (b'{"a": 1, "b": 2, "a": 3}', "is not JSON: a is there twice"),
        (b'{"x": {"\\u001b[31m": 1, "\\u001b[31m": 1}}', r"is not JSON: '\\x1b\[31m' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON: .*digits"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", f"more than {DEEPEST} objects in each other"),
        (b'{"a": ' + b'{"a": ' * 900 + b"1" + b"}" * 901, f"more than {DEEPEST} objects in each other|is not JSON"),
        (b'{"a": ' * 100_000, "is not JSON"),
        (b'{"a": 1' + b" " * 2**26 + b"}", "at most 67108864 are read"),
    ],
    ids=range(12),
)
def test_a_file_that_is_not_a_configuration_is_one_line(content, message, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        json_of(tmp_path / "config.json")
    assert str(refusal.value).isprintable()


def test_a_byte_order_mark_in_front_of_a_configuration_is_no_part_of_it(tmp_path):
    path = saved(tmp_path, CONFIGS["llama"], {"a": np.ones(1, np.float32)}) / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert json_of(path) == json.loads(json.dumps(CONFIGS["llama"]))


LINEAR_ENTRIES = {"main": {"rope_type": "default", "rope_theta": 50.0}, "compress": LINEAR | {"rope_theta": 60.0}}


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("gpt_oss", {"swiglu_alpha": 1.0}, "swiglu_alpha is 1.0; only 1.702 is supported"),
        ("gpt_oss", {"hidden_act": "relu"}, "hidden_act is 'relu'; only 'silu' is supported"),
        ("gpt_oss", {"experts_per_token": 1}, "experts_per_token is 1; only 2 is supported"),
        ("gpt_oss", {"num_experts_per_tok": 4}, "num_experts_per_tok is 4; a whole number from 1 to 3"),
        ("gpt_oss", {"sliding_window": None}, "sliding_attention needs a sliding_window"),
        ("gpt_oss", {"swiglu_limit": 0}, "swiglu_limit is 0; a positive number is expected"),
        ("deepseek_v4", {"layer_types": FULL}, "layer_types is .*; a list of 2 words, of sliding_attention, "),
        ("deepseek_v4", {"mlp_layer_types": ["moe"]}, "mlp_layer_types is .*; a list of 2 words, of hash_moe, moe, is"),
        ("deepseek_v4", {"compress_rates": {"sliding_attention": 2}}, "nothing here reads sliding_attention = 2"),
        ("deepseek_v4", {"compress_rates": {"compressed_sparse_attention": 0}}, "compressed_sparse_attention is 0"),
        ("deepseek_v4", {"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'; only 'sqrtsoftplus'"),
        ("deepseek_v4", {"n_shared_experts": 2}, "n_shared_experts is 2; only 1 is supported"),
        ("deepseek_v4", {"hc_sinkhorn_iters": 3}, "hc_sinkhorn_iters is 3; only 20 is supported"),
        ("deepseek_v4", {"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05; only 1e-06 is supported"),
        ("deepseek_v4", {"partial_rotary_factor": 0.4}, "qk_rope_head_dim is 4; only 2 is supported"),
        ("deepseek_v4", {"rope_scaling": LINEAR}, "rope_type is 'linear'; default and yarn are supported here"),
        ("deepseek_v4", {"rope_parameters": LINEAR_ENTRIES}, "rope_type is 'linear'; default and yarn are supported"),
        (
            "deepseek_v4",
            {"rope_parameters": LINEAR_ENTRIES, "rope_theta": 60.0},
            "rope_theta is 60.0; .* main has another",
        ),
        ("deepseek_v4", {"compress_ratios": [0, 4]}, "nothing here reads compress_ratios"),
    ],
)
def test_what_is_not_read_of_mixtures_is_refused_by_name(name, changed, message):
    with pytest.raises(ValueError, match=message) as error:
        described(Config({**FURTHER[name], **changed}))
    assert "\n" not in str(error.value)


def test_gpt_oss_turns_as_transformers_has_it_where_its_file_does_not_say_how():
    own, _ = described(Config(FURTHER["gpt_oss"]))
    assert own.rotary == Rotary(150_000.0, Yarn(32.0, 4096, 32.0, 1.0, 150_000.0, 0.1 * math.log(32.0) + 1, False))
    assert own.window == ByBlock((128, None))
    assert described(Config({**FURTHER["gpt_oss"], "experts_per_token": 2, "initial_context_length": 4096}))[0] == own


def test_entries_of_deepseek_v4_are_turned_as_what_stands_beside_the_bases_or_in_two_objects_says():
    yarn = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4}
    one, _ = described(Config({**FURTHER["deepseek_v4"], "rope_scaling": yarn, "compress_rope_theta": 70.0}))
    both = {"main": {"rope_theta": 10_000.0}, "compress": yarn | {"rope_theta": 70.0, "attention_factor": 1.0}}
    other, _ = described(Config({**FURTHER["deepseek_v4"], "rope_parameters": both}))
    assert one == other
    assert one.rotary == Rotary(10_000.0, pairs="neighbours")
    assert one.far_rotary == Rotary(70.0, Yarn(16.0, 4, base=70.0), pairs="neighbours")
