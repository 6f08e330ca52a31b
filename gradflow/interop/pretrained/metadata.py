"""Names in a config.json that don't change the function that a model is, whatever their value; and whose model it is.

Everything else that a family does not ask for is refused: a value that another kind of model computes with would be lost.
"""

import re

FILES = """_name_or_path name_or_path _model_name_or_path transformers_version torch_dtype dtype torchscript use_bfloat16
tf_legacy_loss _commit_hash unsloth_version unsloth_fixed"""
TOKENS = """bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id tokenizer_class
processor_class prefix decoder_start_token_id"""
TRAINING = """initializer_range initializer_factor init_std gradient_checkpointing dropout attention_dropout hidden_dropout
activation_dropout hidden_dropout_prob attention_probs_dropout_prob attn_pdrop embd_pdrop resid_pdrop layerdrop
residual_dropout embedding_dropout mlp_dropout dropout_rate"""
RUNNING = """use_cache output_past cache_implementation chunk_size_feed_forward output_attentions output_hidden_states
return_dict use_return_dict attn_implementation _attn_implementation _attn_implementation_autoset
_attn_implementation_internal"""
HEADS = """id2label label2id num_labels problem_type finetuning_task task_specific_params classifier_dropout
qa_dropout seq_classif_dropout"""
GENERATION = """max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty
temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size
bad_words_ids num_return_sequences output_scores return_dict_in_generate forced_bos_token_id forced_eos_token_id
remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens"""
PICTURES = "mrope_section mrope_interleaved"  # how positions of rows and columns are laid out; of text all are one
HARMLESS = frozenset(" ".join((FILES, TOKENS, TRAINING, RUNNING, HEADS, GENERATION, PICTURES)).split())

# How the names of a model type's classes begin, in `architectures` and `auto_map`.
CLASSES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "modernbert": "ModernBert",
    "openai-gpt": "OpenAIGPT",
    "gpt2": "GPT2",
    "opt": "OPT",
    "gpt_neox": "GPTNeoX",
    "gptj": "GPTJ",
    "llama": "(?:Llama|LLaMA)",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "phi3": "Phi3",
    "smollm3": "SmolLM3",
    "granite": "Granite",
    "olmo": "Olmo",
    "olmo2": "Olmo2",
    "olmo3": "Olmo3",
    "starcoder2": "Starcoder2",
    "cohere2": "Cohere2",
    "glm4": "Glm4",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
    "mixtral": "Mixtral",
    "qwen3_moe": "Qwen3Moe",
    "gpt_oss": "GptOss",
    "deepseek_v2": "DeepseekV2",
    "deepseek_v3": "DeepseekV3",
    "deepseek_v4": "DeepseekV4",
    "qwen3_next": "Qwen3Next",
    "qwen4_exp_text": "Qwen4Exp",
    "qwen4_exp": "Qwen4Exp",
    "t5": "T5",
}


def belongs(name, kind: str) -> bool:
    """Returns whether a class of that name is one of the model type's own."""
    own = rf"(?:TF|Flax)?{CLASSES[kind]}(?:Text)?(?:Config|(?:PreTrained|LMHead|DoubleHeads)?Model|For[A-Z]\w*)"
    return isinstance(name, str) and re.fullmatch(own, name.rpartition(".")[2]) is not None
