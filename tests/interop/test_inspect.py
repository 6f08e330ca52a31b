"""`gradflow inspect` at toy size, the tokens that it reads, and what it refuses."""

import json
import sys

import numpy as np
import pytest
from interop_files import CONFIGS, contents, saved

import gradflow as gf
import gradflow.cli as cli
from gradflow.cli import options
from gradflow.interop import tokens

pytest.importorskip("safetensors", reason="checkpoints need safetensors: pip install -e '.[hf]'")
FIGURES = (
    "stream_gradient",
    "budget_toy",
    "stream_rms",
    "token_cosine",
    "split_skip",
    "partial_jacobian",
    "spectrum_bands_toy",
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a toy model and its tokens; commands run there."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "toy", CONFIGS["gemma2"], contents(CONFIGS["gemma2"]))
    (tmp_path / "tokens.txt").write_text(" ".join(str(i * i % 11) for i in range(40)))
    return tmp_path


def run(monkeypatch, *words):
    """The command line with these words."""
    monkeypatch.setattr(sys, "argv", ["gradflow", "inspect", *words])
    cli.main()


def test_a_report_says_the_placement_as_found_and_is_complete(here, monkeypatch, capsys):
    run(monkeypatch, "toy", "--tokens", "tokens.txt", "--context", "5", "--batch", "2", "--out", "out")
    printed = capsys.readouterr().out
    assert printed.startswith("toy: placement sandwich, x + N(F(N x)); Jacobian of a sublayer I + J_N J_F J_N\n")
    assert "2 blocks of attention Attention, mlp GatedFeedForward; RMSNorm; width 8, vocabulary 11" in printed
    assert "initialization: weights as given" in printed
    assert "at initialization" not in printed
    for name in FIGURES:
        assert (here / "out" / "figures" / f"{name}.pdf").exists()
    assert not (here / "out" / "figures" / "split_gains.pdf").exists()  # no gain reads the stream
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["configuration"]["command"] == "inspect"
    assert "figures/token_cosine.csv" in manifest["outputs"]
    node = gf.results.load(here / "out" / "results.nc")["toy"]
    assert node["stream_gradient"].shape == (1, 5)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("missing --tokens tokens.txt", "missing is no folder: one with config.json and safetensors is expected"),
        ("toy", "toy has no tokenizer.json: give the tokens themselves"),
        ("toy --tokens absent.txt", "can't read the tokens absent.txt"),
        ("toy --tokens toy/config.json", "holds no tokens: whole numbers"),
        ("toy --tokens large.txt", "large.txt has tokens from 0 to 11: the model knows 0 to 10"),
        ("toy --tokens tokens.txt --context 50", "has 40 tokens, fewer than 2 (context + 1) = 102"),
        ("toy --tokens tokens.txt --text tokens.txt", "a text and tokens: give one of them"),
        ("toy --tokens tokens.txt --readings spectrm", "did you mean 'spectrum'"),
    ],
)
def test_what_it_cannot_read_is_one_line_that_names_the_remedy(words, remedy, here, monkeypatch, capsys):
    (here / "large.txt").write_text("0 11 " * 100)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *words.split())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert remedy in line
    assert not (here / "gradflow-inspect").exists()


def test_tokens_are_read_from_text_and_from_arrays(tmp_path):
    (tmp_path / "a.txt").write_text("1, 2,3\n4")
    np.save(tmp_path / "a.npy", np.arange(1, 5, dtype=np.uint16))
    assert tokens.of_file(tmp_path / "a.txt").tolist() == tokens.of_file(tmp_path / "a.npy").tolist() == [1, 2, 3, 4]
    assert tokens.digest(tokens.of_file(tmp_path / "a.txt")) == tokens.digest(tokens.of_file(tmp_path / "a.npy"))
    np.save(tmp_path / "b.npy", np.ones((2, 2)))
    np.save(tmp_path / "c.npy", np.array([{}]), allow_pickle=True)
    for name in "bc":
        with pytest.raises(ValueError, match="tokens|numbers"):
            tokens.of_file(tmp_path / f"{name}.npy")


def test_a_text_is_cut_by_the_tokenizer_of_the_folder(tmp_path):
    library = pytest.importorskip("tokenizers", reason="texts need tokenizers: pip install -e '.[hf]'")
    model = library.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")
    own = library.Tokenizer(model)
    own.pre_tokenizer = library.pre_tokenizers.Whitespace()
    own.save(str(tmp_path / "tokenizer.json"))
    assert tokens.of_text(tmp_path, b"a b c a").tolist() == [1, 2, 0, 1]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer that can be read"):
        tokens.of_text(tmp_path, b"a")


def test_a_model_that_sees_all_is_asked_for_masked_tokens(here, monkeypatch, capsys):
    """By the token that its vocabulary or the command names; where none is named a note says that nothing is hidden."""
    words = ("bert", "--tokens", "tokens.txt", "--context", "5", "--batch", "2", "--readings", "backward")
    saved(here / "bert", CONFIGS["bert"], contents(CONFIGS["bert"]))
    targets = lambda out: gf.results.settings(gf.results.load(here / out / "results.nc"))["data"]["targets"]
    run(monkeypatch, *words, "--out", "plain")
    assert "note: this model sees all tokens, and nothing is masked: --mask names the token" in capsys.readouterr().out
    assert targets("plain") == "the token itself, none masked"
    (here / "bert" / "vocab.txt").write_text("a\nb\n[MASK]\n")
    run(monkeypatch, *words, "--out", "masked")
    assert "note: this model sees" not in capsys.readouterr().out
    assert targets("masked") == "the token itself, 15% masked, by token 2"
    for name, mask, remedy in [
        ("bert", "99", "the model knows tokens 0 to"),
        ("toy", "2", "only a model that sees all"),
    ]:
        with pytest.raises(SystemExit):
            run(monkeypatch, name, *words[1:], "--mask", mask, "--out", "no")
        assert remedy in capsys.readouterr().err


def test_spectra_of_a_wide_stream_are_left_to_who_asks_for_them():
    """A dense matrix of a width beyond 1024 takes minutes a sublayer."""
    asked = lambda width, *names: options.Trained(readings=names).asked(
        gf.transformer("pre", depth=1, width=width, heads=1)
    )
    narrow = [reading.__name__ for reading in asked(8)]
    assert narrow == ["reading", "partial_jacobian", "window"]
    with pytest.warns(UserWarning, match="spectra are left out at width 2048"):
        assert [reading.__name__ for reading in asked(2048)] == narrow[:-1]
    assert [reading.__name__ for reading in asked(2048, "spectrum_window")] == ["window"]


def test_the_token_that_hides_is_that_of_the_tokenizer(tmp_path):
    assert tokens.mask(tmp_path) is None
    (tmp_path / "vocab.txt").write_text("<s>\n<mask>\n")
    assert tokens.mask(tmp_path) == 1
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"id": 7, "content": "[MASK]"}]}')
    assert tokens.mask(tmp_path) == 7


def test_hidden_tokens_are_those_that_are_asked_for():
    """15% of every example; of these 80% are hidden, 10% replaced, 10% left (Devlin et al. 2019, section 3.1)."""
    sequence, shape = np.arange(4000) % 7 + 1, {"name": "x", "sha256": "0", "context": 40, "batch": 200, "ahead": 0}
    plain = np.asarray(gf.data.tokens(sequence, **shape).batch(0, 0)["inputs"])
    own = gf.data.tokens(sequence, mask=0, **shape)
    inputs, targets = (np.asarray(own.batch(0, 0)[name]) for name in ("inputs", "targets"))
    asked = targets >= 0
    assert (asked.sum(1) == 6).all()
    np.testing.assert_array_equal(targets[asked], plain[asked])
    np.testing.assert_array_equal(inputs[~asked], plain[~asked])
    assert (inputs[asked] == 0).mean() == pytest.approx(0.8, abs=4 * (0.16 / 1200) ** 0.5)
    assert (inputs[asked] == plain[asked]).mean() == pytest.approx(0.1 + 0.1 / 7, abs=4 * (0.1 / 1200) ** 0.5)
    again = own.windows(np.array([3, 5, 3]))["targets"]
    np.testing.assert_array_equal(again[0], again[2])  # a function of the place in the text alone
    assert (again[0] != again[1]).any()


def test_a_token_is_its_own_target_where_a_model_sees_all():
    sequence = np.arange(40) % 7
    both = {ahead: gf.data.tokens(sequence, name="x", sha256="0", context=5, batch=2, ahead=ahead) for ahead in (0, 1)}
    own, following = (both[ahead].batch(0, 0) for ahead in (0, 1))
    assert (own["inputs"] == following["inputs"]).all()
    assert (own["targets"] == own["inputs"]).all()
    assert (following["targets"] == (following["inputs"] + 1) % 7).all()
    assert both[0].description()["targets"] == "the token itself, none masked"
    assert both[1].description()["tokens"] == 40
