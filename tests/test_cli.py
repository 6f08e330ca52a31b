"""The command line as its user meets it: the main job at toy size, wrong input, an interruption."""

import dataclasses
import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest

import gradflow.cli as cli
from gradflow.results.locks import LOCK
from gradflow.results.quantities import QUANTITIES, SOURCES
from gradflow.training.optimizers import OPTIMIZERS

TOY = ["--depth", "2", "--width", "8", "--heads", "2", "--context", "8", "--batch", "2", "--steps", "2", "--seeds", "2"]


def command(*words, **options):
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also where a parent ignores it
    program = [sys.executable, "-c", f"{heard}; from gradflow.cli import main; main()", *words]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def refused(capsys, monkeypatch, *words, job="compare") -> str:
    """The one line of standard error."""
    monkeypatch.setattr(sys, "argv", ["gradflow", job, *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    return printed.err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a few bad inputs; afterwards nothing else may be in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "broken.py").write_text("one = nothing")
    (tmp_path / "exits.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "interrupts.py").write_text("raise KeyboardInterrupt")
    (tmp_path / "prints.py").write_text("print('much' * 1000)")
    (tmp_path / "long.py").write_text("raise RuntimeError('many\\nlines' * 1000)")
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "somebodys").mkdir()
    (tmp_path / "somebodys" / "thesis.txt").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    yield tmp_path
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("--text missing.txt", "there is no file missing.txt"),
        ("--text empty.txt", "at least 130 bytes"),
        ("--text short.txt", "longer text or a smaller context"),
        ("--text somebodys", "a regular file is expected"),
        ("--depth 0", "depth is 0: at least 1 is needed"),
        ("--seeds 0", "at least 1"),
        ("--steps 0", "at least 1"),
        ("--batch 0", "at least 1"),
        ("--context 1", "at least 2"),
        ("--heads 0", "at least 1"),
        ("--width 63", "not a multiple of heads"),
        ("--lr -1", "lr is -1.0: a finite number above 0 is needed"),
        ("--wirings pre pots", "did you mean 'post'"),
        ("--wirings pre pre", "different names"),
        ("--wirings nobodys:one", "No module named 'nobodys'; give module:name"),
        ("--wirings math:one", "has no attribute 'one'; give module:name"),
        ("--wirings broken:one", "no wiring 'broken:one': name 'nothing' is not defined; give module:name"),
        ("--wirings math:pi", "math:pi is a float: give the module:name of a gf.Wiring"),
        ("--init brt", "did you mean 'bert'"),
        ("--optimizer adm", "did you mean 'adam'"),
        ("--out somebodys", "another folder"),
        ("--out empty.txt", "name a folder"),
        ("--out empty.txt/inside", "can be written"),
        ("--depth 1000000000", "of memory"),
        ("--seeds 1000000000", "of memory"),
        ("--batch 1000000000", "of memory"),
        ("--depth 1000000000000000000000000000000", ""),
        ("--lr nan", "lr is nan"),
        ("--b1 2", "b1 is 2.0"),
        ("--decay 0.5", "adam has no decay"),
        ("--key -1", "key is -1"),
        ("--wirings exits:x", "no wiring 'exits:x': it ends by SystemExit; give module:name"),
        ("--wirings interrupts:x", "it ends by KeyboardInterrupt"),
        ("--wirings prints:y", "has no attribute 'y'"),
        ("--wirings long:x", "…; give module:name"),
        ("--wirings broken:", "no wiring 'broken:'"),
        ("--wirings :x", "no wiring ':x'"),
        ("--wirings C:\\\\x", "No module named 'C'"),
        ("--wirings", "at least one wiring"),
        (
            "--depht 3",
            "Unrecognized options: --depht, 3; did you mean --depth? gradflow compare --help lists what there is",
        ),
        ("--depth three", "invalid literal for int() with base 10: 'three'; gradflow compare --help"),
        ("--depth", "Missing value for argument '--depth'"),
        ("--seeds 1 2", "Unrecognized options: 2; gradflow compare --help"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_remedy(words, remedy, here, capsys, monkeypatch):
    assert remedy in refused(capsys, monkeypatch, *words.split())


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("--warmup -1", "warmup is -1: at least 0 is needed"),
        ("--schedule cosin", "did you mean 'cosine'"),
        ("--clip 0", "clip is 0.0: a finite number above 0 is needed"),
        ("--clip-parameter -1", "clip_parameter is -1.0: a finite number above 0 is needed"),
        ("--dropout 1", "dropout is 1.0: a finite number from 0 below 1 is needed"),
        ("--precision bf16", "known: bfloat16, float32, float64"),
        ("--optimizer sgd --b2 0.9", "its constants are momentum, nesterov"),
        ("--record 0 200", "between 0 and steps = 100"),
        ("--record evry:2", "give steps, or early, every:N or logarithmic:N"),
        ("--readings standrd", "no reading 'standrd'"),
        ("--readings backward lyapunv", "did you mean 'lyapunov'"),
        ("--checkpoint-every 0", "at least 1"),
        ("--out somebodys --resume", "another folder"),
        ("--readings", "readings names none"),
        ("--record 5 early", "give steps, or early, every:N or logarithmic:N"),
        ("--record early:3", "give steps, or early, every:N or logarithmic:N"),
        ("--record logarithmic:100000000", "at most 10000"),
        ("--record every:1 --steps 1000000000", "of memory"),
    ],
)
def test_what_training_cannot_do_is_one_line_too(words, remedy, here, capsys, monkeypatch):
    assert remedy in refused(capsys, monkeypatch, *words.split(), job="train")


def printed(capsys, monkeypatch, *words) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["gradflow", *words])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(("job", "what"), [("diagnose", "FILE.py:NAME"), ("verify", "A bundle")])
def test_an_argument_that_is_missing_is_said_in_words(job, what, capsys, monkeypatch):
    assert refused(capsys, monkeypatch, job=job).startswith(f"gradflow {job}: an argument is missing: {what}")


def test_a_word_that_is_no_command_is_one_line(capsys, monkeypatch):
    code, out, errors = printed(capsys, monkeypatch, "compre")
    assert (code, out) == (2, "")
    assert errors == "gradflow: Unrecognized options: compre; gradflow --help lists what there is\n"


def test_the_version_is_told(capsys, monkeypatch):
    code, out, errors = printed(capsys, monkeypatch, "--version")
    assert (code, errors) == (0, "")
    assert out.startswith("gradflow ")


def test_a_wiring_by_its_name_is_its_row(capsys, monkeypatch):
    code, out, errors = printed(capsys, monkeypatch, "wirings", "post")
    assert (code, errors) == (0, "")
    assert out.splitlines()[:2] == ["post", "  N(x + F x)"]
    assert len(out.splitlines()) == 4
    code, out, errors = printed(capsys, monkeypatch, "wirings", "pots")
    assert (code, out) == (2, "")
    assert "did you mean 'post'" in errors


@pytest.mark.parametrize("columns", [20, 60, 300])
def test_quantities_are_printed_by_reading_within_the_width_of_the_console(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    code, out, errors = printed(capsys, monkeypatch, "quantities")
    assert (code, errors) == (0, "")
    assert max(map(len, out.splitlines())) <= min(max(columns, 40), 100)
    paragraphs = {paragraph.splitlines()[0]: " ".join(paragraph.split()) for paragraph in out.split("\n\n")}
    assert set(SOURCES) <= set(paragraphs)
    assert "cost: one forward pass of the batch, and the routers once more" in paragraphs["expert_load"]
    for name, quantity in QUANTITIES.items():
        told = f"{name} [{quantity.units}]: {quantity.long_name}"
        assert (told in paragraphs[quantity.reading]) != name.endswith("_sem"), name


def test_a_quantity_by_its_name_is_its_row_in_full(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, errors = printed(capsys, monkeypatch, "quantities", "update_norm", "budget")
    assert (code, errors) == (0, "")
    assert out.split("\n\n")[0].splitlines() == [
        "update_norm",
        "  meaning:       size of the update",
        "  formula:       ‖ΔW‖_F",
        "  latex:         \\|\\Delta W\\|_F",
        "  unit:          norm",
        "  mean:          geometric",
        "  reading:       update",
        '  how to get it: gf.train(..., readings="update")',
        "  cost:          a few reductions over the parameters",
        "  figure:        gf.plot.profile",
    ]
    assert f"  latex:         {QUANTITIES['budget'].latex}" in out.splitlines()


def test_a_misspelt_quantity_is_one_line(capsys, monkeypatch):
    told = refused(capsys, monkeypatch, "budget", "bugdet", job="quantities")
    assert told.startswith("gradflow quantities: no quantity 'bugdet': did you mean 'budget'")


def test_help_shows_what_holds_where_nothing_is_given(capsys, monkeypatch):
    words = lambda command: " ".join(printed(capsys, monkeypatch, command, "--help")[1].replace("│", " ").split())
    listed = words("train")
    assert "None" not in listed.replace("{None}", "")
    assert "(default: every half minute)" in listed
    assert "(default: the language reference that CPython ships)" in listed
    assert "(default: all)" in words("atlas")
    for name, optimizer in OPTIMIZERS.items():
        for constant in dataclasses.fields(optimizer):
            assert f"--{constant.name.replace('_', '-')}" in listed, name


DEFAULTS = {
    "momentum": "0",
    "b1": "0.9",
    "b2": "0.999",
    "beta": "0.95",
    "decay": "0.9",
    "eps": "1e-08",
    "weight_decay": "0",
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_constants_that_are_listed_are_those_that_hold(name):
    """Those of the others than these, lion's b2 and adamw's decay, stand beside them."""
    others = {("lion", "b2"): "0.99", ("adamw", "weight_decay"): "0.01"}
    for field in dataclasses.fields(OPTIMIZERS[name]):
        if field.name != "nesterov":
            told = others.get((name, field.name), DEFAULTS[field.name])
            assert getattr(OPTIMIZERS[name], field.name) == float(told)


def test_what_was_not_foreseen_is_two_lines_and_a_traceback_on_request(capsys, monkeypatch):
    monkeypatch.setattr("gradflow.named.wiring", lambda word: 1 / 0)
    code, out, errors = printed(capsys, monkeypatch, "wirings", "a:b")
    assert (code, out) == (1, "")
    assert errors.splitlines()[0] == "gradflow wirings: unforeseen ZeroDivisionError: division by zero"
    assert "GRADFLOW_TRACEBACK=1" in errors.splitlines()[1]
    monkeypatch.setenv("GRADFLOW_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        printed(capsys, monkeypatch, "wirings", "a:b")


def test_memory_that_is_not_there_after_all_is_one_line(capsys, monkeypatch):
    def too_much(word):
        raise MemoryError("Unable to allocate 100 GiB")

    monkeypatch.setattr("gradflow.named.wiring", too_much)
    code, _, errors = printed(capsys, monkeypatch, "wirings", "a:b")
    assert code == 2
    assert errors.startswith("gradflow wirings: out of memory (Unable to allocate 100 GiB): take fewer")
    assert len(errors.splitlines()) == 1


def test_warnings_are_notes(capsys, monkeypatch):
    def warns(word):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("first\nsecond", stacklevel=1)
        raise ValueError("and so on")

    monkeypatch.setattr("gradflow.named.wiring", warns)
    _, _, errors = printed(capsys, monkeypatch, "wirings", "a:b")
    assert errors.splitlines() == ["note: first second", "gradflow wirings: and so on"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_a_console_has_not_are_printed_as_codes(encoding, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "argv", ["gradflow", "wirings", "deepnorm"])
    cli.main()
    assert r"\u03b1" in console.buffer.getvalue().decode(encoding)
    assert console.errors == "strict"


def test_who_reads_the_first_line_alone_hears_nothing_else(tmp_path):
    with command("wirings", cwd=tmp_path) as job:
        job.stdout.close()
        assert job.stderr.read() == ""
        assert job.wait(timeout=120) == 141


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("XLA_FLAGS", "--xla_nonsense=1", "XLA_FLAGS has what this jaxlib can't read, --xla_nonsense=1"),
        ("JAX_PLATFORMS", "nonsense", "JAX can't start on 'nonsense'"),
    ],
)
def test_what_jax_was_told_wrongly_is_one_line(variable, value, words, tmp_path):
    job = command("version", cwd=tmp_path, env={**os.environ, variable: value})
    out, errors = job.communicate(timeout=120)
    assert (job.returncode, out) == (2, "")
    assert words in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path, capsys, monkeypatch):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "can be written" in refused(capsys, monkeypatch, "--out", str(locked / "out"))


def test_the_main_job_writes_its_folder_and_a_true_summary(tmp_path):
    text = tmp_path / "text.bin"
    text.write_bytes(bytes(range(256)) * 20)
    job = command("compare", *TOY, "--text", str(text), "--wirings", "deepnorm", "--out", "out", cwd=tmp_path)
    printed, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    out = tmp_path / "out"
    for name in ("results.nc", "manifest.json", "appendix.tex", "figures/comparison.png", "tables/summary.txt"):
        assert (out / name).exists()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["configuration"]["depth"] == 2
    assert manifest["configuration"]["text_sha256"] == __import__("hashlib").sha256(text.read_bytes()).hexdigest()
    assert manifest["configuration"]["lr"] == 1e-3
    assert "at step 2" in printed
    assert (out / "tables" / "summary.txt").read_text().splitlines()[1] in printed


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder to stand in; what a command sets for a process of its own is set back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", os.environ.get("OPENBLAS_NUM_THREADS", "1"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    collected = gc.get_threshold()
    yield tmp_path
    gc.set_threshold(*collected)


@pytest.mark.long
def test_a_run_that_diverges_finishes_its_report(empty, capsys, monkeypatch):
    options = "--wirings none post --optimizer sgd --lr 1e30 --out out --readings economy --depth 1 --steps 3"
    code, out, errors = printed(capsys, monkeypatch, "train", *TOY, *options.split())
    assert code == 0, errors
    assert "seed 0: not finite from step" in out
    assert "at stream position" in out
    assert (empty / "out" / "appendix.tex").exists()


@pytest.mark.long
def test_the_table_of_wirings_has_ones_own_and_a_run_takes_it(empty, capsys, monkeypatch):
    own = 'half = gf.Wiring("half", write=gf.layers.Gain(0.5), norm_out=gf.norms.RMSNorm(), equation="N(x + F(x)/2)")'
    (empty / "table_of_mine.py").write_text(f"import gradflow as gf\n{own}\n")
    _, out, errors = printed(capsys, monkeypatch, "wirings", "table_of_mine:half")
    assert not errors
    blocks = {block.splitlines()[0]: block for block in out.split("\n\n")}
    assert {"pre", "residual", "mix_ln", "half"} <= set(blocks)
    assert "N(x + F(x)/2)" in blocks["half"]
    words = ("--readings", "economy", "--record", "0", "--wirings", "table_of_mine:half", "mix_ln", "--out", "out")
    code, out, errors = printed(capsys, monkeypatch, "train", *TOY, *words)
    assert code == 0, errors
    assert {"half", "mix_ln"} <= {line.split(":")[0] for line in out.splitlines()}


@pytest.mark.long
def test_the_atlas_takes_ones_own_wiring_and_goes_on_in_its_folder(empty, capsys, monkeypatch):
    own = 'import gradflow as gf\nhalf = gf.Wiring("half", write=gf.layers.Gain(0.5))\n'
    (empty / "atlas_of_mine.py").write_text(own)
    words = ("atlas", *TOY, "--wirings", "pre", "atlas_of_mine:half", "--out", "out", "--overwrite")
    for made in (True, False):
        before = {path: path.stat().st_mtime_ns for path in (empty / "out" / "wirings").glob("*.nc")}
        code, out, errors = printed(capsys, monkeypatch, *words)
        assert code == 0, errors
        assert "tables/atlas.html are in out/" in out
        after = {path: path.stat().st_mtime_ns for path in (empty / "out" / "wirings").glob("*.nc")}
        assert len(after) == 2
        assert made or after == before
    assert "half" in (empty / "out" / "tables" / "atlas.md").read_text()
    code, _, errors = printed(capsys, monkeypatch, *words, "--steps", "3")
    assert code == 2
    assert "steps was 2, now 3; name another folder" in errors


@pytest.mark.long
def test_an_interrupted_run_leaves_the_manifest_and_nothing_half_written(tmp_path):
    job = command("compare", *TOY[:-4], "--steps", "100000", "--seeds", "2", "--out", "out", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    job.send_signal(signal.SIGINT)  # once: nothing may swallow it
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert "--resume continues" in errors
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"checkpoints", "manifest.json", LOCK}
    json.loads((tmp_path / "out" / "manifest.json").read_text())


def test_help_does_not_import_the_house(tmp_path):
    probe = "import sys, gradflow.cli; assert 'jax' not in sys.modules and 'xarray' not in sys.modules"
    subprocess.run([sys.executable, "-c", probe], check=True)
