"""`gradflow inspect` at toy size, the tokens that it reads, and what it refuses."""

import json
import sys

import numpy as np
import pytest
from interop_files import CONFIGS, FURTHER, contents, saved

import gradflow as gf
import gradflow.cli as cli
from gradflow.instruments.readings import readings
from gradflow.interop import tokenizer, tokens, trained
from gradflow.recomputation import recompute
from gradflow.results.configuration import differences

pytest.importorskip("safetensors", reason="checkpoints need safetensors: pip install -e '.[hf]'")
FIGURES = (
    "stream_gradient",
    "budget_toy",
    "stream_rms",
    "token_cosine",
    "split_toy",
    "partial_jacobian_toy",
    "spectrum_bands_toy",
    "attention_toy",
    "massive_toy",
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


@pytest.mark.further
def test_a_report_says_the_placement_as_found_and_is_complete(here, monkeypatch, capsys):
    run(monkeypatch, "toy", "--tokens", "tokens.txt", "--context", "5", "--batch", "2", "--out", "out")
    printed = capsys.readouterr().out
    assert printed.startswith("toy: placement sandwich, x + N(F(N x)); Jacobian of a sublayer I + J_N J_F J_N\n")
    parameters = sum(tensor.size for tensor in contents(CONFIGS["gemma2"]).values())
    sizes = f"width 8, vocabulary 11, {parameters:,} parameters"
    assert f"2 blocks of attention Attention, mlp GatedFeedForward; RMSNorm; {sizes}\n" in printed
    assert "initialization: weights as given" in printed
    assert "at initialization" not in printed
    for name in FIGURES:
        assert (here / "out" / "figures" / f"{name}.pdf").exists()
    assert (
        "gains" not in (here / "out" / "figures" / "split_toy.csv").read_text().split("\n", 1)[1]
    )  # none reads the stream
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
        ("toy --tokens absent.txt", "there is no file absent.txt"),
        ("toy --tokens toy/config.json", "holds no tokens: whole numbers"),
        ("toy --tokens large.txt", "large.txt has tokens from 0 to 11: the model knows 0 to 10"),
        ("toy --tokens tokens.txt --context 50", "has 40 tokens, fewer than 2 (context + 1) = 102"),
        ("toy --tokens tokens.txt --text tokens.txt", "a text and tokens: give one of them"),
        ("toy --tokens tokens.txt --readings spectrm", "did you mean 'spectrum'"),
        ("toy --tokens tokens.txt --context 0", "context is 0: at least 2 is needed"),
        ("toy --tokens tokens.txt --batch 0", "batch is 0: at least 1 is needed"),
        ("toy --tokens tokens.txt --begin first", "begin is 'first': auto, none or the number of a token is expected"),
        ("toy --tokens tokens.txt --context 5 --begin 11", "begin is 11: the model knows tokens 0 to 10"),
        ("toy --tokens toy", "toy is a directory: a regular file is expected"),
        ("toy --tokens /dev/zero", "/dev/zero is a device"),
        ("toy --tokens negative.txt", "negative.txt has tokens from -1 to 1: 0 to 2147483647 are possible"),
        ("toy --tokens floats.npy", "floats.npy holds float64 numbers of shape (40,)"),
        ("toy --tokens zip.npy", "zip.npy holds no tokens: whole numbers"),
        ("toy --tokens promise.npy", "promise.npy holds no tokens: whole numbers"),
        ("gpt2 --tokens tokens.txt --context 7", "context is 7: the model has learned 6 positions"),
    ],
)
def test_what_it_cannot_read_is_one_line_that_names_the_remedy(words, remedy, here, monkeypatch, capsys):
    (here / "large.txt").write_text("0 11 " * 100)
    (here / "negative.txt").write_text("-1 1 " * 100)
    (here / "zip.npy").write_bytes(b"PK\x03\x04" + bytes(50))
    np.save(here / "floats.npy", np.ones(40))
    promise = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000,), }".ljust(117) + b"\n"
    (here / "promise.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + promise)
    saved(here / "gpt2", CONFIGS["gpt2"], contents(CONFIGS["gpt2"]))
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, *words.split())
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert remedy in line
    assert not (here / "gradflow-inspect").exists()


@pytest.mark.further
def test_a_model_of_delta_nets_and_memories_is_measured_as_any(here):
    config = FURTHER["qwen4_exp_text"]
    saved(here / "toy", config, contents(config))
    np.save(here / "ids.npy", np.arange(200) % 11)
    tree = trained.opened(here / "toy", tokens=here / "ids.npy", context=5, batch=2).measured()["toy"]
    assert tree["kind"].values.tolist() == ["memory", "linear_attention", "experts", "attention", "experts"]
    assert bool((tree["stream_gradient"] > 0).all())
    assert np.isfinite(tree["attention_entropy"][0].values).all(-1).tolist() == [False] * 3 + [True, False]


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


@pytest.mark.long
def test_a_model_that_sees_all_is_asked_for_masked_tokens(here, monkeypatch, capsys):
    """By the token that its vocabulary or the command names; where none is named a note says that nothing is hidden."""
    words = ("bert", "--tokens", "tokens.txt", "--context", "5", "--batch", "2", "--readings", "economy")
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
        ("bert", "99", "mask is 99: the model knows tokens 0 to 10"),
        ("toy", "2", "only a model that sees all"),
    ]:
        with pytest.raises(SystemExit):
            run(monkeypatch, name, *words[1:], "--mask", mask, "--out", "no")
        assert remedy in capsys.readouterr().err


def test_spectra_of_a_wide_stream_are_left_to_who_asks_for_them():
    """A dense matrix of a width beyond 1024 takes minutes a sublayer."""
    of = lambda width, *names: trained.quantities(readings(names), gf.transformer("pre", depth=1, width=width, heads=1))
    narrow = [reading.__name__ for reading in of(8)]
    assert narrow == ["reading", "by_head", "massive", "partial_jacobian", "window"]
    with pytest.warns(UserWarning, match="spectra are left out at width 2048"):
        assert [reading.__name__ for reading in of(2048)] == narrow[:-1]
    assert [reading.__name__ for reading in of(2048, "spectrum_window")] == ["window"]


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


# ---- the checkpoints of a run -------------------------------------------------------------------------------

STEPS = (20, 0, 5)  # in any order
READ = {"tokens": "tokens.txt", "context": 5, "batch": 2}


@pytest.fixture
def of_a_run(here):
    """Three checkpoints of a toy model in one folder, whose weights shrink."""
    config, tensors = CONFIGS["llama"], contents(CONFIGS["llama"])
    for step in STEPS:
        scaled = {name: (1 - step / 50) * tensor for name, tensor in tensors.items()}
        saved(here / "run" / f"checkpoint-{step}", config, scaled)
    return [f"run/checkpoint-{step}" for step in STEPS]


@pytest.mark.further
def test_the_checkpoints_of_a_run_are_the_steps_of_one_measurement(of_a_run, here, monkeypatch, capsys):
    run(monkeypatch, *of_a_run, "--tokens", "tokens.txt", "--context", "5", "--batch", "2", "--readings", "backward")
    printed = capsys.readouterr().out
    assert "  3 checkpoints, steps 0, 5, 20\n" in printed
    tree = gf.results.load(here / "gradflow-inspect" / "results.nc")
    assert tree["step"].values.tolist() == [0, 5, 20]
    assert tree["run"]["stream_gradient"].dims == ("step", "seed", "depth")
    alone = trained.opened(of_a_run[2], readings=("backward",), **READ).measured()["checkpoint-5"]
    for name in ("stream_gradient", "loss", "parameter_gradient"):
        np.testing.assert_array_equal(tree["run"][name].sel(step=5), alone[name], err_msg=name)
    weights = json.loads(tree.attrs["checkpoint"])["weights_sha256"]
    assert list(weights) == [f"checkpoint-{step}/model.safetensors" for step in (0, 5, 20)]
    assert (here / "gradflow-inspect" / "figures" / "stream_gradient.pdf").exists()
    assert gf.report.verify(here / "gradflow-inspect", level=3, recompute=recompute).in_order


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("{run} --steps 1 2", "3 folders and 2 steps: give one each, --steps, or none"),
        ("{run} --steps 1 2 1", "more than one folder is of step 1: --steps says which step each is of"),
        ("{run} --steps 1 2 -1", "step is -1: at least 0 is needed"),
        ("toy {run}", "toy has no step in its name, as checkpoint-500 has: give them all, --steps 0 500"),
        ("toy {run} --steps 1 2 3 4", "steps 1 and 2 are not of one run, their model differs: "),
        ("{run} run/checkpoint-7", "run/checkpoint-7 is no folder"),
    ],
)
def test_checkpoints_that_are_not_steps_of_one_run_are_refused(words, remedy, of_a_run, here, monkeypatch, capsys):
    words = words.format(run=" ".join(of_a_run))
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *words.split(), "--tokens", "tokens.txt", "--context", "5", "--out", "out")
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith(f"gradflow inspect: {remedy}")
    assert not (here / "out").exists()


# ---- what an example begins with ----------------------------------------------------------------------------


def tokenizer_in(folder, post=None, settings=None):
    """A tokenizer of one letter a token, 3 to 6, with marks 1 and 2 around a text where it is given a rule; and its settings."""
    library = pytest.importorskip("tokenizers", reason="texts need tokenizers: pip install -e '.[hf]'")
    words = {"?": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "c": 5, "d": 6, "[MASK]": 7}
    own = library.Tokenizer(library.models.WordLevel(words, unk_token="?"))
    own.pre_tokenizer = library.pre_tokenizers.Split("", "isolated")
    own.add_special_tokens(["<s>", "</s>", "[MASK]"])
    if post:
        own.post_processor = library.processors.TemplateProcessing(
            single=post, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    own.save(str(folder / "tokenizer.json"))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))


NOTHING = "nothing is put around an example"
NAMED = "; config.json names 1 as a beginning: --begin 1 puts it there"
BOS = {"bos_token": "<s>"}
RULES = [  # the template, tokenizer_config.json, what is asked for: what an example begins with, and what is told
    ("<s> $A", None, "auto", (1,), "examples begin with 1 <s>, the tokenizer's rule"),
    ("<s> $A </s>", None, "auto", (1,), "examples begin with 1 <s>, the tokenizer's rule"),
    ("<s> <s> $A", None, "auto", (1, 1), "examples begin with 1 <s> 1 <s>, the tokenizer's rule"),
    ("$A </s>", None, "auto", (), NOTHING + NAMED),
    (None, None, "auto", (), NOTHING + NAMED),
    (None, BOS, "auto", (), NOTHING + NAMED),
    (None, {**BOS, "add_bos_token": False}, "auto", (), NOTHING + NAMED),
    (
        None,
        {**BOS, "add_bos_token": True},
        "auto",
        (1,),
        "examples begin with 1 <s>, as tokenizer_config.json has add_bos_token",
    ),
    (None, {"bos_token": {"content": "<s>"}, "add_bos_token": True}, "auto", (1,), "examples begin with 1 <s>, as "),
    ("<s> $A", {**BOS, "add_bos_token": True}, "auto", (1,), "examples begin with 1 <s>, the tokenizer's rule"),
    (
        "<s> $A",
        {**BOS, "add_bos_token": False},
        "auto",
        (1,),
        "rule, though tokenizer_config.json has add_bos_token false",
    ),
    ("<s> $A", None, "none", (), NOTHING + ", as asked for"),
    ("<s> $A", None, "6", (6,), "examples begin with 6, as asked for"),
    (None, None, 0, (0,), "examples begin with 0, as asked for"),
]


@pytest.mark.parametrize(("post", "settings", "begin", "marks", "told"), RULES)
def test_an_example_begins_as_the_tokenizer_has_it_or_as_is_asked_for(post, settings, begin, marks, told, here):
    saved(here / "toy", CONFIGS["llama"] | {"bos_token_id": 1}, contents(CONFIGS["llama"]))
    tokenizer_in(here / "toy", post, settings)
    (here / "text").write_text("abcd" * 10)
    read = trained.opened("toy", text="text", context=6, batch=3, begin=begin)
    inputs, targets = (np.asarray(read.text.batch(0, 0)[name]) for name in ("inputs", "targets"))
    assert (inputs[:, : len(marks)] == marks).all()
    assert set(inputs[:, len(marks) :].ravel()) == {3, 4, 5, 6}
    own = targets[:, max(0, len(marks) - 1) :]
    np.testing.assert_array_equal(own[:, :-1], inputs[:, len(marks) :] if marks else inputs[:, 1:])
    assert told in read.text.notes[-1]
    assert read.to_text()[-1].endswith(f"text; {read.text.notes[-1]}")
    assert read.sources["marks"] == {"begin": list(marks), "end": []}
    assert read.text.description()["notes"] == list(read.text.notes)


def test_tokens_begin_as_the_folders_tokenizer_has_it(here):
    saved(here / "toy", CONFIGS["llama"], contents(CONFIGS["llama"]))
    tokenizer_in(here / "toy", "<s> $A")
    assert trained.opened("toy", tokens="tokens.txt", context=5).text.begin == (1,)
    (here / "toy" / "tokenizer.json").write_text("nonsense")
    assert trained.opened("toy", tokens="tokens.txt", context=5, begin=3).text.begin == (3,)
    with pytest.raises(ValueError, match=r"tokenizer.json of toy is not a tokenizer that can be read"):
        trained.opened("toy", tokens="tokens.txt", context=5)


@pytest.mark.filterwarnings("ignore:this model sees all tokens")
def test_a_bert_reads_between_its_marks(here):
    """By its tokenizer, or by its vocabulary where there is none."""
    saved(here / "bert", CONFIGS["bert"], contents(CONFIGS["bert"]))
    (here / "bert" / "vocab.txt").write_text("a\nb\n[CLS]\n[SEP]\n[MASK]\n")
    words = trained.opened("bert", tokens="tokens.txt", context=6).text
    assert (words.begin, words.end, words.mask) == ((2,), (3,), 4)
    assert words.notes == ("examples begin with 2 [CLS] and end with 3 [SEP], the tokenizer's rule",)
    tokenizer_in(here / "bert", "<s> $A </s>")
    own = trained.opened("bert", tokens="tokens.txt", context=6).text
    assert (own.begin, own.end, own.mask) == ((1,), (2,), 7)
    plain = trained.opened("bert", tokens="tokens.txt", context=6, begin="none").text
    assert (plain.begin, plain.end, plain.mask) == ((), (), 7)


def test_two_models_with_other_weights_or_tokens_are_not_one_configuration(here):
    config, tensors = CONFIGS["llama"], contents(CONFIGS["llama"])
    one = trained.opened(saved(here / "a" / "m", config, tensors), tokens="tokens.txt", context=5)
    other = trained.opened(
        saved(here / "b" / "m", config, {n: 1.5 * t for n, t in tensors.items()}), tokens="tokens.txt", context=5
    )
    assert "weights_sha256.model.safetensors was " in differences(one.sources, other.sources)
    tokenizer_in(here / "a" / "m", "<s> $A")
    marked = trained.opened(here / "a" / "m", tokens="tokens.txt", context=5)
    assert differences(one.sources, marked.sources) == "marks.begin.0 was None, now 1"


# ---- texts --------------------------------------------------------------------------------------------------


def test_what_is_not_utf_8_is_counted_and_told(here):
    saved(here / "toy", CONFIGS["llama"], contents(CONFIGS["llama"]))
    tokenizer_in(here / "toy")
    (here / "text").write_bytes(b"\xef\xbb\xbf" + b"abcd" * 8 + b"\xff\xc3(\xe2\x82")
    with pytest.warns(UserWarning, match="text: 4 of its 37 bytes are not UTF-8, and are replaced"):
        text = trained.opened("toy", text="text", context=6).text
    assert text.notes[:2] == (
        "begins with a byte-order mark, left out",
        "4 of its 37 bytes are not UTF-8, and are replaced",
    )
    assert text.tokens.tolist() == [3, 4, 5, 6] * 8 + [
        0,
        0,
        0,
        0,
    ]  # each run of broken bytes is one sign, and "(" is another


@pytest.mark.parametrize(
    ("content", "bad", "text"),
    [
        (b"", 0, ""),
        ("aé€😀".encode(), 0, "aé€😀"),
        (b"\x00\x7f", 0, "\x00\x7f"),
        (b"a\xe9b", 1, "a\ufffdb"),
        (b"\xed\xa0\x80", 3, "\ufffd" * 3),  # half of a pair
        (b"\xc0\xaf", 2, "\ufffd" * 2),  # longer than need be
        (b"\xf4\x90\x80\x80", 4, "\ufffd" * 4),  # beyond the last sign
        (b"\x80" * 1000, 1000, "\ufffd" * 1000),
        ("\ufffd".encode(), 0, "\ufffd"),
    ],
)
def test_bytes_that_are_no_text_are_counted(content, bad, text):
    words, notes = tokenizer.decoded(content, "x")
    assert words == text
    assert notes == ([f"{bad} of its {len(content)} bytes are not UTF-8, and are replaced"] if bad else [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be", "utf-32-be"])
def test_a_text_in_another_encoding_says_so_and_is_refused(encoding):
    with pytest.raises(
        ValueError, match=f"x begins with the byte-order mark of {encoding[:6].upper()}: give a text in UTF-8"
    ):
        tokenizer.decoded("\ufeffab".encode(encoding) if encoding.endswith("be") else "ab".encode(encoding), "x")
