"""The zoo: architectures of the field at their published sizes, each a value that builds its model and scales.

Of Gemini nothing but its siblings' internals (Gemma) is published. Bottom up: architecture, bert, deepseek, deepseek_v4, gemma,
gpt, llama, decoders, hybrids, opt, original, t5.
"""

import pandas as pd

from ...results.arguments import known
from .architecture import Architecture
from .bert import BERT
from .deepseek import DEEPSEEK
from .gemma import GEMMA
from .gpt import GPT1, GPT2, GPT3
from .llama import LLAMA, MISTRAL, OLMO2, QWEN3
from .opt import OPT
from .original import ORIGINAL
from .t5 import T5S

ZOO: dict[str, Architecture] = {
    **ORIGINAL,
    **T5S,
    **BERT,
    **GPT1,
    **GPT2,
    **GPT3,
    **OPT,
    **LLAMA,
    **MISTRAL,
    **GEMMA,
    **OLMO2,
    **QWEN3,
    **DEEPSEEK,
}


def architecture(name: str) -> Architecture:
    """Returns the published architecture of that name.

    >>> small = architecture("gpt2").scaled(depth=4, width=128)
    >>> small.heads, small.model().depth
    (2, 4)
    """
    return ZOO[known("architecture", name, ZOO)]


def architectures() -> pd.DataFrame:
    """Returns the table of all named architectures: model, year, placement, norm, attention, activation, size, source.

    >>> architectures().loc["gemma2-2b", "placement"]
    'sandwich'
    """
    rows = [{"name": name, **own.row()} for name, own in ZOO.items()]
    return pd.DataFrame(rows).set_index("name")
