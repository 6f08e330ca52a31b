"""From a model type and its configuration to an architecture of the zoo, and the layout of its files.

Defaults are those that a file means by leaving a value out.
"""

from collections.abc import Callable

from ...model.zoo.architecture import Architecture
from . import decoders, deepseek_v4, encoder_decoders, encoders, gpts, mixtures
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
    "t5": encoder_decoders.t5,
}
# Those of a source and a target.
OF_TWO_SEQUENCES = ("t5",)
# Types that are asked for and can't be said in what is here, and what of them could.
BEYOND = {
    "qwen4_exp": "it has linear attention (gated delta nets) and embeddings of hashed n-grams, which nothing here has; its "
    "residual is the wiring gated_residual",
}
BEYOND["qwen4_exp_text"] = BEYOND["qwen4_exp"]
