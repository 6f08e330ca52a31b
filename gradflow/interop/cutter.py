"""A program of its own, which reads a tokenizer and cuts a text: standard input has a line of JSON, what is asked, and the text.

A tokenizer.json is somebody's program: patterns that never end, replacements that grow without bound, templates that end the
library's thread with a page of traces. In a process of its own it can be stopped, and what it says be held back.

Asked are `path`, `names` of tokens, and how many bytes of `memory` are enough. Written are arrays (.npz): `ids` of the text,
`begin` and `end` that are put around one, the `words` that these stand for, and `known`, the token of every name (-1: none). On
an error one line instead, and exit code 3.
"""

import io
import json
import sys

PROBES = ("a", "the", "0", "\n")  # texts of which one has a token, whatever the alphabet


def main(asked: dict, text: bytes) -> bytes:
    """Returns the arrays, as a file."""
    limit(asked["memory"])
    import numpy as np
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer.from_file(asked["path"])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if isinstance(tokenizer.model, models.BPE):
        tokenizer.model.dropout = None  # of merges, in training: a text is cut in one way
    begin, end = around(tokenizer)
    found = [tokenizer.token_to_id(name) for name in asked["names"]]
    known = [-1 if token is None else token for token in found]
    ids = tokenizer.encode(text.decode("utf-8"), add_special_tokens=False).ids
    arrays = {"ids": ids, "begin": begin, "end": end, "known": known}
    words = [tokenizer.id_to_token(token) or "" for token in [*begin, *end]]
    made = io.BytesIO()
    whole = {name: np.array(tokens, np.int64) for name, tokens in arrays.items()}
    np.savez(made, allow_pickle=False, words=np.array(words, str), **whole)
    return made.getvalue()


def around(tokenizer) -> tuple[list[int], list[int]]:
    """Returns the tokens in front of a text and behind it, by the tokenizer's own rule."""
    for probe in PROBES:
        whole = tokenizer.encode(probe)
        text = [i for i, mark in enumerate(whole.special_tokens_mask) if not mark]
        if text:
            return whole.ids[: text[0]], whole.ids[text[-1] + 1 :]
    return [], []


def limit(memory: int) -> None:
    """Takes away what is beyond so many bytes, where the system knows how."""
    try:
        import resource
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    least = memory if most == resource.RLIM_INFINITY else min(memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (least, most))


if __name__ == "__main__":
    try:
        line = sys.stdin.buffer.readline()
        answer, code = main(json.loads(line), sys.stdin.buffer.read()), 0
    except BaseException as error:  # a panic of the library is no Exception
        answer, code = str(error).encode("utf-8", "backslashreplace"), 3
    sys.stdout.buffer.write(answer)
    sys.exit(code)
