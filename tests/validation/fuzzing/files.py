"""Files: texts, tokens, tokenizers, configurations, weights and results, whole and not, and what is no file at all."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import h5py
import numpy as np

import gradflow as gf
from gradflow.interop import tokens as reading

from . import world
from .cases import EITHER, REFUSED, RIGHT, Line, words
from .folders import flipped
from .world import need

# ---- texts and tokens ---------------------------------------------------------------------------------------


def put_file(content: bytes, name: str = "file.txt") -> Path:
    """A file with that content."""
    Path(name).write_bytes(content)
    return Path(name)


def text_of(path, context: int = 8) -> None:
    """A text holds the bytes of its file, and its batches come from them."""
    data = gf.data.text(path, context=context, batch=2)
    content = Path(path).read_bytes()
    need(data.tokens.tobytes() == content, "other bytes than the file's")
    row = bytes(np.asarray(data.batch(0, 0)["inputs"])[0].astype(np.uint8))
    need(row in content, "a batch that is not of the text")


def tokens_of(path, expected=None) -> None:
    """The tokens in a file are the numbers that were written there."""
    found = reading.of_file(path)
    need(found.ndim == 1 and found.dtype.kind in "iu", f"{found.dtype} of shape {found.shape}")
    if expected is not None:
        need(found.tolist() == list(expected), f"{found.tolist()[:5]} for {list(expected)[:5]}")


def array_file(array, name: str = "file.npy") -> Path:
    """An array in a file."""
    np.save(name, array, allow_pickle=True)
    return Path(name)


def claiming(shape: str, descr: str = "<i8") -> Path:
    """An array's file whose header claims a shape that its data have not."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}"
    body = header.ljust(117) + "\n"
    return put_file(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body.encode() + b"\0" * 64, "file.npy")


TEXTS = {
    "put_file(b'')": REFUSED,
    "put_file(b'x' * 17)": REFUSED,
    "put_file(b'x' * 18)": RIGHT,
    "put_file(b'x' * 19)": RIGHT,
    "put_file(bytes(range(256)) * 2)": RIGHT,
    "put_file(b'\\0' * 100)": RIGHT,
    "put_file(b'\\xff\\xfe' + 'text'.encode('utf-16-le') * 20)": RIGHT,
    "put_file('größer'.encode() * 10)": RIGHT,
    "put_file(b'x\\r\\n' * 30)": RIGHT,
    "str(put_file(b'x' * 50))": RIGHT,
    "put_file(b'x' * 50).resolve()": RIGHT,
    "put_file(b'x' * 50, 'ü 100%.txt')": RIGHT,
    "put_file(b'x' * 50, 'a\\nb')": RIGHT,
    "linked()": RIGHT,
    "fifo()": REFUSED,
    "loop()": REFUSED,
    "'/dev/null'": REFUSED,
    "'/dev/zero'": REFUSED,
    "'/dev/random'": REFUSED,
    "'/dev/full'": REFUSED,
    "'/dev/tty'": REFUSED,
    "'/proc/self/mem'": REFUSED,
    "'/proc/self'": REFUSED,
    "'missing'": REFUSED,
    "'.'": REFUSED,
    "'/'": REFUSED,
    "'a' * 5000": REFUSED,
    "'a/' * 3000": REFUSED,
    "'file.txt/'": REFUSED,
    "socket_file()": REFUSED,
    "Path('/dev/fd/0')": REFUSED,
}
NUMBERS = {
    "b'1 2 3'": (RIGHT, "[1, 2, 3]"),
    "b'1,2,3'": (RIGHT, "[1, 2, 3]"),
    "b'1, 2,\\n3\\n'": (RIGHT, "[1, 2, 3]"),
    "b'  7  '": (RIGHT, "[7]"),
    "b'1\\t2\\r\\n3'": (RIGHT, "[1, 2, 3]"),
    "b'0001'": (EITHER, "[1]"),
    "b'9223372036854775807'": (EITHER, "[2**63 - 1]"),
    "b''": (EITHER, "[]"),
    "b'-1 2'": (EITHER, "[-1, 2]"),
    "b'+1 2'": (EITHER, "[1, 2]"),
    "b'1_000'": (EITHER, "[1000]"),
    "'１ ２'.encode()": (EITHER, "[1, 2]"),
    "b'\\xef\\xbb\\xbf1 2'": (EITHER, "[1, 2]"),
    "b'1,,2'": (EITHER, "[1, 2]"),
    "b'9223372036854775808'": (REFUSED, "None"),
    "b'-9223372036854775809'": (REFUSED, "None"),
    "b'9' * 5000": (REFUSED, "None"),
    "b'1.0 2'": (REFUSED, "None"),
    "b'1e3'": (REFUSED, "None"),
    "b'0x10'": (REFUSED, "None"),
    "b'nan'": (REFUSED, "None"),
    "b'one two'": (REFUSED, "None"),
    "b'1;2'": (REFUSED, "None"),
    "b'[1, 2]'": (REFUSED, "None"),
    "b'1 2 \\0 3'": (REFUSED, "None"),
    "b'\\xff\\xfe1\\0 \\0'": (REFUSED, "None"),
    "b'\\x80'": (REFUSED, "None"),
    "b'True'": (REFUSED, "None"),
}
ARRAYS = {
    "array_file(np.arange(5))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.int8))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint16))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype='>i4'))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint64))": (RIGHT, "range(5)"),
    "array_file(np.arange(5, dtype=np.uint64) + np.uint64(2**63))": (REFUSED, "None"),
    "array_file(np.arange(5.0))": (REFUSED, "None"),
    "array_file(np.ones(5, bool))": (REFUSED, "None"),
    "array_file(np.ones((5, 2), int))": (REFUSED, "None"),
    "array_file(np.array(5))": (REFUSED, "None"),
    "array_file(np.array([None, 1]))": (REFUSED, "None"),
    "array_file(np.array(['1', '2']))": (REFUSED, "None"),
    "array_file(np.ones(5, complex))": (REFUSED, "None"),
    "array_file(np.array(['2020-01-01'], 'datetime64[D]'))": (REFUSED, "None"),
    "array_file(np.zeros(3, [('a', int)]))": (REFUSED, "None"),
    "put_file(b'', 'a.npy')": (REFUSED, "None"),
    "put_file(b'\\x93NUMPY', 'a.npy')": (REFUSED, "None"),
    "put_file(b'1 2 3', 'a.npy')": (REFUSED, "None"),
    "put_file(b'PK\\x03\\x04' + b'\\0' * 100, 'a.npy')": (REFUSED, "None"),
    "claiming('(1000000000000,)')": (REFUSED, "None"),
    "claiming('(9223372036854775807,)')": (REFUSED, "None"),
    "claiming('(-1,)')": (REFUSED, "None"),
    "claiming('(100,)')": (REFUSED, "None"),
    "claiming('(2, 10**10)')": (REFUSED, "None"),
    "claiming('(8,)', '|O')": (REFUSED, "None"),
    "claiming('(8,)', 'nonsense')": (REFUSED, "None"),
    "claiming('x')": (REFUSED, "None"),
}


def socket_file() -> str:
    """The address of a socket."""
    import socket

    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    return "socket"


# ---- a model's folder ---------------------------------------------------------------------------------------


def folder_of(name: str = "toy") -> Path:
    """A copy of a trained model's folder."""
    import shutil

    return Path(shutil.copytree(world.prepared(name), "model"))


def configured(**changed):
    """`gf.checkpoint` of the toy, with some values of its configuration changed; `...` takes one away."""
    folder = folder_of()
    told = json.loads((folder / "config.json").read_text()) | changed
    kept = {name: value for name, value in told.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))
    return read(folder)


def read(folder: Path):
    """The model and its weights; its parameters have the shapes that the model says."""
    import jax

    model, params = gf.checkpoint(folder)
    shapes = [a.shape for a in jax.tree.leaves(model.shapes)]
    need([a.shape for a in jax.tree.leaves(params)] == shapes, "parameters of other shapes than the model's")
    return model, params


def config_of(content: bytes):
    """`gf.checkpoint` with that for a configuration."""
    folder = folder_of()
    (folder / "config.json").write_bytes(content)
    return read(folder)


def weights_of(content=None, **changed):
    """`gf.checkpoint` with that for weights; or with tensors changed: `...` takes one away."""
    folder = folder_of()
    path = folder / "model.safetensors"
    if content is None:
        from safetensors.numpy import load_file, save_file

        held = {**load_file(path), **{name.replace("__", "."): value for name, value in changed.items()}}
        save_file({name: value for name, value in held.items() if value is not ...}, path)
    else:
        path.write_bytes(content(path.read_bytes()))
    return read(folder)


def header(**changed):
    """What changes the header of a file of weights, of the first tensor."""

    def make(raw: bytes) -> bytes:
        size = int.from_bytes(raw[:8], "little")
        told = json.loads(raw[8 : 8 + size])
        first = next(name for name in told if name != "__metadata__")
        told[first] |= changed
        written = json.dumps(told).encode()
        return len(written).to_bytes(8, "little") + written + raw[8 + size :]

    return make


def tokenized(content: bytes) -> None:
    """Tokens of a text by a tokenizer that may be hostile."""
    folder = folder_of()
    (folder / "tokenizer.json").write_bytes(content)
    found = reading.of_text(folder, b"a b c a")
    need(found.dtype.kind in "iu" and (found >= 0).all(), "tokens that are none")


def tokenizer() -> dict:
    """One that can be read."""
    return json.loads((world.prepared("toy") / "tokenizer.json").read_text())


def tokenizer_with(*path, value) -> bytes:
    """It, changed in one place."""
    told = tokenizer()
    place = told
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(told).encode()


VALUES = words(r"""
    None | True | 'x' | '' | -1 | 0 | 1.5 | 10**30 | [] | {} | float('nan') | float('inf') | [1] | {'a': 1}
    'a' * 10000 | 2**63 | ...
""")
SIZES = words(r"""
    vocab_size | hidden_size | num_hidden_layers | num_attention_heads | num_key_value_heads | intermediate_size
    max_position_embeddings
""")
OTHERS = words(r"""
    rms_norm_eps | rope_theta | hidden_act | tie_word_embeddings | attention_bias | head_dim | rope_scaling
    sliding_window | layer_types | attention_dropout | torch_dtype | quantization_config | architectures
    unknown_key | query_pre_attn_scalar | attn_logit_softcapping | bos_token_id | use_cache | initializer_range
""")
CONFIGS = {
    "model_type='llama', hidden_size=16": REFUSED,
    "model_type='lama'": REFUSED,
    "model_type='mistral'": EITHER,
    "model_type='bert'": REFUSED,
    "model_type='gpt2'": REFUSED,
    "model_type='qwen3'": REFUSED,
    "model_type='gemma2'": REFUSED,
    "model_type='olmo2'": REFUSED,
    "model_type='t5'": REFUSED,
    "num_hidden_layers=3": REFUSED,
    "num_hidden_layers=1": REFUSED,
    "num_attention_heads=3": REFUSED,
    "num_key_value_heads=2": REFUSED,
    "vocab_size=12": REFUSED,
    "hidden_act='relu6'": REFUSED,
    "rope_scaling={'type': 'nothing', 'factor': 2.0}": REFUSED,
    "quantization_config={'bits': 4}": REFUSED,
    "rms_norm_eps=-1.0": REFUSED,
    "rope_theta=-1.0": REFUSED,
    "rope_theta=0": REFUSED,
    "num_hidden_layers=10**9": REFUSED,
    "vocab_size=10**12": REFUSED,
    "hidden_size=10**9": REFUSED,
    "torch_dtype='float16'": RIGHT,
    "transformers_version='5.0'": RIGHT,
}
RAW = words(r"""
    b'' | b'{}' | b'[]' | b'null' | b'3' | b'"x"' | b'{' | b'\xff\xfe' | b'\0' * 100 | b'[' * 100_000
    b'{"a":' * 50_000 | b'NaN' | b'{"model_type": "llama"}' | b'{"model_type": "llama", "model_type": "bert"}'
    b'9' * 100_000
""")
WEIGHTS = {
    "lambda raw: b''": REFUSED,
    "lambda raw: raw[:8]": REFUSED,
    "lambda raw: raw[:-1]": REFUSED,
    "lambda raw: raw[:len(raw) // 2]": REFUSED,
    "lambda raw: raw + b'x'": REFUSED,
    "lambda raw: b'\\xff' * 8 + raw[8:]": REFUSED,
    "lambda raw: (2**40).to_bytes(8, 'little') + raw[8:]": REFUSED,
    "lambda raw: (0).to_bytes(8, 'little') + raw[8:]": REFUSED,
    "lambda raw: (2).to_bytes(8, 'little') + b'{}'": REFUSED,
    "lambda raw: (100_000).to_bytes(8, 'little') + b'[' * 100_000": REFUSED,
    "lambda raw: b'PK\\x03\\x04' + raw": REFUSED,
    "lambda raw: pickle.dumps(object)": REFUSED,
    "header(dtype='F33')": REFUSED,
    "header(dtype='I32')": REFUSED,
    "header(dtype='BOOL')": REFUSED,
    "header(dtype=None)": REFUSED,
    "header(shape=[1, 1])": REFUSED,
    "header(shape=[-1])": REFUSED,
    "header(shape=[2**40, 2**40])": REFUSED,
    "header(shape=[])": REFUSED,
    "header(shape='x')": REFUSED,
    "header(data_offsets=[0, 0])": REFUSED,
    "header(data_offsets=[10, 0])": REFUSED,
    "header(data_offsets=[0, 2**60])": REFUSED,
    "header(data_offsets=[1, 2, 3])": REFUSED,
    "header(more=3)": EITHER,
}
TENSORS = {
    "model__norm__weight=...": REFUSED,
    "model__norm__weight=np.ones(9, np.float32)": REFUSED,
    "model__norm__weight=np.ones((8, 1), np.float32)": REFUSED,
    "model__norm__weight=np.ones(8, np.int32)": REFUSED,
    "model__norm__weight=np.ones(8, bool)": REFUSED,
    "model__norm__weight=np.ones((), np.float32)": REFUSED,
    "model__norm__weight=np.ones(0, np.float32)": REFUSED,
    "model__norm__weight=np.ones(8, np.float16)": RIGHT,
    "model__norm__weight=np.ones(8, np.float64)": RIGHT,
    "model__norm__weight=np.full(8, np.nan, np.float32)": EITHER,
    "model__norm__weight=np.full(8, np.inf, np.float32)": EITHER,
    "model__norm__bias=np.ones(8, np.float32)": REFUSED,
    "model__more=np.ones(8, np.float32)": REFUSED,
    "model__layers__2__input_layernorm__weight=np.ones(8, np.float32)": REFUSED,
    "model__layers__0__self_attn__q_proj__weight=...": REFUSED,
    "model__layers__0__self_attn__q_proj__weight=np.ones((8, 9), np.float32)": REFUSED,
    "model__layers__0__self_attn__q_proj__bias=np.ones(8, np.float32)": REFUSED,
    "lm_head__weight=...": EITHER,
    "model__embed_tokens__weight=np.ones((12, 8), np.float32)": REFUSED,
    "model__embed_tokens__weight=np.ones((8, 11), np.float32)": REFUSED,
}
TOKENIZERS = words(r"""
    ('model',), value=None | ('model',), value={} | ('model', 'type'), value='Nothing'
    ('model', 'vocab'), value=[] | ('model', 'vocab'), value={} | ('model', 'vocab', 'a'), value=-1
    ('model', 'vocab', 'a'), value=2**40 | ('model', 'vocab', 'a'), value=2**31
    ('model', 'unk_token'), value='nothing' | ('version',), value='9' | ('added_tokens',), value=3
    ('added_tokens',), value=[{'id': 2**33, 'content': 'x'}]
    ('normalizer',), value={'type': 'Replace', 'pattern': {'Regex': '('}, 'content': ''}
    ('normalizer',), value={'type': 'Replace', 'pattern': {'Regex': '(a*)*b'}, 'content': ''}
    ('normalizer',), value={'type': 'Precompiled', 'precompiled_charsmap': 'AAAA'}
    ('normalizer',), value={'type': 'Precompiled', 'precompiled_charsmap': ''}
    ('pre_tokenizer',), value={'type': 'Nothing'}
    ('post_processor',), value={'type': 'TemplateProcessing', 'single': [], 'pair': [], 'special_tokens': {}}
    ('truncation',), value={'max_length': 1, 'stride': 5, 'strategy': 'LongestFirst', 'direction': 'Right'}
    ('padding',), value={'strategy': {'Fixed': 2**40}} | ('decoder',), value=3
""")


# ---- results ------------------------------------------------------------------------------------------------


def results_with(change) -> None:
    """Results whose file was changed by hand, read."""
    path = world.names()["kept"]()
    with h5py.File(path, "a") as file:
        change(file)
    gf.results.load(path)


def external_link(file) -> None:
    """A group that is another file's."""
    other = world.names()["kept"]().rename("other.nc") if not Path("other.nc").exists() else Path("other.nc")
    file["elsewhere"] = h5py.ExternalLink(str(other), "/")


def external_data(file) -> None:
    """Numbers that are those of another file's bytes."""
    made = file["pre"].create_dataset("secret", (16,), "u1", external=[("/etc/hostname", 0, 16)])
    made.attrs["long_name"] = "secret"


def huge(shape: tuple, chunks=True):
    """A variable of a size that no machine holds, of which nothing is there."""

    def change(file) -> None:
        place = file["pre"]
        made = place.create_dataset("large", shape, "f8", chunks=(1,) * len(shape) if chunks else None, fillvalue=1.0)
        made.attrs["long_name"] = "large"

    return change


def hard_link_loop(file) -> None:
    """A group inside itself."""
    file["pre"]["again"] = file["pre"]


def soft_link(file) -> None:
    """A link to nowhere."""
    file["pre"]["nowhere"] = h5py.SoftLink("/nothing")


def without(name: str):
    """A variable less."""

    def change(file) -> None:
        del file["pre"][name]

    return change


def attribute(name: str, value):
    """Another attribute of the root."""

    def change(file) -> None:
        file.attrs[name] = value

    return change


RESULTS = {
    "external_data": REFUSED,
    "external_link": REFUSED,
    "huge((10**13,))": REFUSED,
    "huge((10**6, 10**6))": REFUSED,
    "huge((10**9, 10**9))": REFUSED,
    "hard_link_loop": EITHER,
    "soft_link": EITHER,
    "without('loss')": EITHER,
    "without('depth')": EITHER,
    "without('stream_gradient')": EITHER,
    "attribute('provenance', '{')": EITHER,
    "attribute('provenance', 3)": EITHER,
    "attribute('more', np.ones(3))": EITHER,
    "attribute('key', b'\\xff\\xfe')": EITHER,
    "lambda file: file.__delitem__('pre')": EITHER,
    "lambda file: file.create_dataset('text', data='x')": EITHER,
    "lambda file: file.create_dataset('objects', (1,), h5py.ref_dtype)": EITHER,
    "lambda file: file.create_dataset('own', data=np.zeros(2, [('a', int)]))": EITHER,
}


def lines(chance: Random) -> Iterator[Line]:
    """Of all of these; then bytes changed anywhere, without end."""
    toy = ("toy",)
    yield from (Line(f"text_of({code})", verdict) for code, verdict in TEXTS.items())
    yield from (Line(f"tokens_of(put_file({code}), {right})", verdict) for code, (verdict, right) in NUMBERS.items())
    yield from (Line(f"tokens_of({code}, {right})", verdict) for code, (verdict, right) in ARRAYS.items())
    yield from (
        Line(f"tokens_of({code})", verdict)
        for code, verdict in TEXTS.items()
        if verdict == REFUSED and "b''" not in code and "/dev/null" not in code
    )
    yield from (Line(f"configured({code})", verdict, toy) for code, verdict in CONFIGS.items())
    yield from (Line(f"config_of({code})", REFUSED, toy) for code in RAW)
    yield from (Line(f"weights_of({code})", verdict, toy) for code, verdict in WEIGHTS.items())
    yield from (Line(f"weights_of({code})", verdict, toy) for code, verdict in TENSORS.items())
    yield from (Line(f"tokenized({code})", REFUSED, toy) for code in RAW)
    yield from (Line(f"tokenized(tokenizer_with(*{code}))", EITHER, toy) for code in TOKENIZERS)
    yield from (Line(f"results_with({code})", verdict) for code, verdict in RESULTS.items())
    for name in SIZES:
        for value in VALUES:
            yield Line(f"configured({name}={value})", EITHER if value == "..." else REFUSED, toy)
    for name in OTHERS:
        for value in VALUES:
            yield Line(f"configured({name}={value})", EITHER, toy)
    while True:
        place, what = chance.random(), chance.choice(("flipped", "shortened", "emptied_at"))
        target = chance.choice(("config.json", "model.safetensors", "tokenizer.json", "results.nc"))
        seed = chance.randrange(1000)
        yield Line(f"changed_file({target!r}, {what}, {place:.4f}, {seed})", EITHER, toy)


def shortened(raw: bytes, place: float, _: int) -> bytes:
    """Cut off there."""
    return raw[: int(place * len(raw))]


def emptied_at(raw: bytes, place: float, seed: int) -> bytes:
    """Some bytes set to zero there."""
    start = int(place * len(raw))
    return raw[:start] + b"\0" * min(1 + seed % 64, len(raw) - start) + raw[start + 1 + seed % 64 :]


def changed_file(name: str, change, place: float, seed: int) -> None:
    """A file whose bytes were changed, read: refused, or of the shapes that it says."""
    path = world.names()["kept"]() if name == "results.nc" else folder_of() / name
    path.write_bytes(change(path.read_bytes(), place, seed))
    if name == "results.nc":
        gf.results.load(path)
    elif name == "tokenizer.json":
        reading.of_text(path.parent, b"a b c")
    else:
        read(path.parent)


__all__ = ["flipped", "os"]
