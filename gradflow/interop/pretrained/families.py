"""From a model type and its configuration to an architecture of the zoo, and the layout of its files.

Defaults are those that a file means by leaving a value out.
"""

from collections.abc import Callable

from ...model.zoo.architecture import Architecture
from . import decoders, deepseek_v4, encoder_decoders, encoders, gpts, hybrids, mixtures
from .configs import Config
from .sources import Layout

FAMILIES: dict[str, Callable[[Config], tuple[Architecture, Layout]]] = {
    "bert": encoders.bert,
    "roberta": encoders.roberta,
    "distilbert": encoders.distilbert,
    "modernbert": encoders.modernbert,
    "openai-gpt": gpts.gpt1,
    "gpt2": gpts.gpt2,
    "opt": gpts.opt,
    "gpt_neox": gpts.gpt_neox,
    "gptj": gpts.gptj,
    "llama": decoders.llama,
    "mistral": decoders.mistral,
    "qwen2": decoders.qwen2,
    "qwen3": decoders.qwen3,
    "phi3": decoders.phi3,
    "smollm3": decoders.smollm3,
    "granite": decoders.granite,
    "olmo": decoders.olmo,
    "olmo2": decoders.olmo2,
    "olmo3": decoders.olmo3,
    "starcoder2": decoders.starcoder2,
    "cohere2": decoders.cohere2,
    "glm4": decoders.glm4,
    "gemma": decoders.gemma,
    "gemma2": decoders.gemma2,
    "gemma3_text": decoders.gemma3,
    "mixtral": mixtures.mixtral,
    "qwen3_moe": mixtures.qwen3_moe,
    "gpt_oss": mixtures.gpt_oss,
    "deepseek_v2": mixtures.deepseek_v2,
    "deepseek_v3": mixtures.deepseek_v3,
    "deepseek_v4": deepseek_v4.deepseek_v4,
    "qwen3_next": hybrids.qwen3_next,
    "qwen4_exp_text": hybrids.qwen4,
    "qwen4_exp": hybrids.qwen4_of_two,
    "t5": encoder_decoders.t5,
}
# Those of a source and a target.
OF_TWO_SEQUENCES = ("t5",)
