"""Tokenizers that are not right: whatever is in the file, there are tokens or one line, and in a time that is known."""

import copy
import json
import sys

import pytest

from gradflow.interop import tokenizer

library = pytest.importorskip("tokenizers", reason="texts need tokenizers: pip install -e '.[hf]'")


def base() -> dict:
    """A tokenizer of whole words, with a mark in front of a text."""
    own = library.Tokenizer(library.models.WordLevel({"?": 0, "a": 1, "b": 2}, unk_token="?"))
    own.pre_tokenizer = library.pre_tokenizers.Whitespace()
    own.add_special_tokens(["<s>"])
    own.post_processor = library.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    return json.loads(own.to_str())


def changed(*path, **values) -> dict:
    """The tokenizer, with other values at the place that the path leads to."""
    whole = copy.deepcopy(base())
    place = whole
    for step in path:
        place = place[step]
    place.update(values)
    return whole


def split(pattern: str) -> dict:
    """A rule that cuts at a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 2000}
WRONG = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b"\xff\xfe{",
    "a list": b"[]",
    "no model": b"{}",
    "deep": b'{"version":"1.0","model":' + b'{"a":' * 100_000,
    "a token that is negative": changed("model", "vocab", a=-1),
    "a token beyond 2^32": changed("model", "vocab", a=2**40),
    "added tokens that are no list": changed(added_tokens=3),
    "a template of a mark that is not there": changed("post_processor", special_tokens={}),  # the library's thread ends
    "a template of a second text": changed("post_processor", single=[{"Sequence": {"id": "B", "type_id": 0}}]),
    "a pattern that is none": changed(pre_tokenizer=split("(")),
    "a pattern that does not end": changed(pre_tokenizer=split(r"(a|a|aa)+$"), normalizer=GROWING),
    "a text that grows": changed(normalizer={"type": "Sequence", "normalizers": [GROWING] * 3}),
    "a table that is none": changed(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "//////////8AAAAA/////w=="}
    ),
    "pieces of length 0": changed(pre_tokenizer={"type": "FixedLength", "length": 0}),
    "another version": changed(version="9.9\n\x1b[31m"),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_tokenizer_that_is_not_right_is_one_line(content, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tokenizer, "SECONDS", 3)
    monkeypatch.setattr(tokenizer, "MEMORY", 2**30)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(
        ValueError, match=r"tokenizer\.json of .* (is not a tokenizer|does not come to an end)"
    ) as refusal:
        tokenizer.cut(tmp_path, "aaaa b " * 30 + "c")
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400
    assert capfd.readouterr() == ("", "")


RIGHT = {
    "as it is": (base(), [1, 2, 0], (3,)),
    "two words of one token": (changed("model", "vocab", a=2), [2, 2, 0], (3,)),
    "cut to nothing": (
        changed(truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}),
        [1, 2, 0],
        (3,),
    ),
    "filled up": (
        changed(
            padding={
                "strategy": {"Fixed": 10**12},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "?",
            }
        ),
        [1, 2, 0],
        (3,),
    ),
    "all taken away": (changed(normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": ""}), [], ()),
    "no rule": (changed(post_processor=None), [1, 2, 0], ()),
    "two rules": (
        changed(post_processor={"type": "Sequence", "processors": [base()["post_processor"]]}),
        [1, 2, 0],
        (3,),
    ),
    "a rule of BERT's": (
        changed(post_processor={"type": "BertProcessing", "sep": ["x", 7], "cls": ["y", 9]}),
        [1, 2, 0],
        (9,),
    ),
}


@pytest.mark.parametrize(("content", "ids", "begin"), RIGHT.values(), ids=RIGHT)
def test_a_tokenizer_that_is_odd_is_read(content, ids, begin, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    found = tokenizer.cut(tmp_path, "a b c", ["<s>", "a", "zzz", "\x00", ""])
    assert found.ids.tolist() == ids
    assert found.begin == begin
    assert found.known == {"<s>": 3, "a": content["model"]["vocab"]["a"]}


def test_merges_that_training_leaves_out_by_chance_are_made(tmp_path):
    vocabulary = {"a": 0, "aa": 1, "aaaa": 2}
    model = {"type": "BPE", "dropout": 0.9, "vocab": vocabulary, "merges": [["a", "a"], ["aa", "aa"]]}
    whole = base() | {"post_processor": None, "added_tokens": [], "pre_tokenizer": None, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    assert tokenizer.cut(tmp_path, "a" * 20).ids.tolist() == [2] * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('{"add_bos_token": "yes"}', "add_bos_token is 'yes'; true or false is expected"),
        ('{"add_bos_token": true}', "has add_bos_token, but bos_token None is no token here: --begin names its number"),
        ('{"add_bos_token": true, "bos_token": "zzz"}', "bos_token 'zzz' is no token here"),
        ('{"add_bos_token": true, "bos_token": 3}', "bos_token None is no token here"),
        ('{"add_bos_token": true, "bos_token": {"content": ["<s>"]}}', "bos_token None is no token here"),
        ('{"add_bos_token": true, "bos_token": "\\n\\u001b[31m"}', r"bos_token '\\n\\x1b\[31m' is no token here"),
        ("[]", "tokenizer_config.json of .* holds a list"),
        ('{"a":' * 10_000, "tokenizer_config.json of .* is not JSON"),
    ],
)
def test_settings_that_are_not_right_are_one_line(settings, message, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(settings)
    nothing = tokenizer.by_vocabulary(tmp_path)
    with pytest.raises(ValueError, match=message) as refusal:
        tokenizer.by_rule(nothing, *tokenizer.beginning(tmp_path))
    assert str(refusal.value).isprintable()


def test_a_tokenizer_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer, "LARGEST", 100)
    (tmp_path / "tokenizer.json").write_text(json.dumps(base()))
    with pytest.raises(ValueError, match="tokenizer.json of .* bytes: at most 100 are read"):
        tokenizer.cut(tmp_path, "a")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"needs tokenizers: pip install 'gradflow-jax\[hf\]'"):
        tokenizer.cut(tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"a\n" * 10, b"[CLS]\n", b"\x00"])
def test_a_vocabulary_that_says_nothing_is_let_be(content, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(content)
    found = tokenizer.by_vocabulary(tmp_path)
    assert (found.begin, found.end, found.mask) == ((), (), None)


def test_a_file_that_is_there_and_cannot_be_read_is_not_as_if_there_were_none(tmp_path):
    """As a link of a cache whose target was taken away."""
    for name, read in (("vocab.txt", tokenizer.by_vocabulary), ("tokenizer_config.json", tokenizer.beginning)):
        (tmp_path / name).symlink_to("nowhere")
        with pytest.raises((OSError, ValueError), match=f"there is no file .*{name}: it is a link to nothing"):
            read(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "vocab.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="vocab.txt of .* is not UTF-8"):
        tokenizer.by_vocabulary(tmp_path)


def test_a_vocabulary_counts_lines_and_nothing_else(tmp_path):
    """Some tokens of BERT are signs that Python takes for the end of a line."""
    (tmp_path / "vocab.txt").write_bytes("a\u2028\r\n\x0c\r\n[CLS]\r\n[SEP]\r\n".encode())
    found = tokenizer.by_vocabulary(tmp_path)
    assert (found.begin, found.end, found.known["a\u2028"]) == ((2,), (3,), 0)
