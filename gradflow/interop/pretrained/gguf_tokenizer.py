"""The tokenizer in the metadata of a GGUF file, in the words of a tokenizer.json: pairs of bytes, as Llama 3 and Qwen have them.

The file has tokens, merges and kinds of tokens, and names the pattern by which a text is split first; the patterns themselves
are those of ggml-org/llama.cpp, src/llama-vocab.cpp, which also has a beginning put in front where a file does not say it.
"""

from pathlib import Path
from typing import Any, NamedTuple

from .gguf_files import reader

METADATA = "tokenizer.ggml."
CONTROL, OWN = 3, 4  # kinds of tokens that are found in a text before it is split
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Split(NamedTuple):
    """How a text is split: a pattern, whether it is brought to NFC first, words that are tokens are not merged anew."""

    digits: str
    composed: bool
    whole_words: bool
    begins: bool  # where the file does not say it

    @property
    def pattern(self) -> str:
        """The pattern of what is split off."""
        return f"{WORDS}|{self.digits}|{SPACES}"


SPLITS = {
    "llama-bpe": Split(r"\p{N}{1,3}", composed=False, whole_words=True, begins=True),
    "qwen2": Split(r"\p{N}", composed=True, whole_words=False, begins=False),
}


def tokenizer(path: Path) -> dict[str, Any] | None:
    """Returns what a tokenizer.json would say of the tokenizer in a GGUF file; None of another than pairs of bytes."""
    found = {name: field.contents() for name, field in reader(path).fields.items() if name.startswith(METADATA)}
    said = {name.removeprefix(METADATA): value for name, value in found.items()}
    split = SPLITS.get(str(said.get("pre")))
    if said.get("model") != "gpt2" or split is None or "tokens" not in said or "merges" not in said:
        return None
    tokens = said["tokens"]
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    first = {"type": "Split", "pattern": {"Regex": split.pattern}, "behavior": "Isolated", "invert": False}
    pairs = {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": said["merges"]}
    return {
        "version": "1.0",
        "added_tokens": _added(tokens, said.get("token_type", [])),
        "normalizer": {"type": "NFC"} if split.composed else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [first, bytewise]},
        "post_processor": _beginning(tokens, said, split),
        "decoder": None,
        "model": {**pairs, "ignore_merges": split.whole_words},
    }


def _added(tokens, kinds) -> list[dict[str, Any]]:
    """Returns the tokens that are found in a text before it is split."""
    found = []
    for i, (token, kind) in enumerate(zip(tokens, kinds, strict=False)):
        if kind in (CONTROL, OWN):
            plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            found.append({"id": i, "content": token, "special": kind == CONTROL, **plain})
    return found


def _beginning(tokens, said: dict[str, Any], split: Split) -> dict[str, Any] | None:
    """Returns the rule that puts a token in front of a text; None where there is none."""
    number = said.get("bos_token_id", -1)
    if not said.get("add_bos_token", split.begins) or number not in range(len(tokens)):
        return None
    word = tokens[number]
    rule = [{"SpecialToken": {"id": word, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": rule,
        "pair": [*rule, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {word: {"id": word, "ids": [int(number)], "tokens": [word]}},
    }
