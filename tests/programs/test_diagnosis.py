"""What a diagnosis says of programs that are right, of mutants, and where it can't tell."""

import re
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs.models import MUTANTS, PROGRAMS, RIGHT, fresh, marked_lines, plain_scan
from programs.models.mistaken import plain
from programs.models.program import cross_entropy

import gradflow as gf
from gradflow import cli, named
from gradflow.programs.diagnosis.coupling import coupling
from gradflow.programs.diagnosis.norms import norm_of
from gradflow.results.diagnosis import Diagnosis, Step, ranges, repeated

FEW = {"plain_loop", "scan_blocks", "rezero_start"}
FEW_MUTANTS = {f"plain/{name}" for name in ("norm_on_path", "no_add", "shared_norm", "unscaled_scores", "eps_outside")}
FEW_MUTANTS |= {
    f"plain/{name}/layer_1" for name in ("post_for_pre", "double_norm", "heads_for_tokens", "no_causal_mask")
}
WITHOUT_TRUNK = ("perceptron", "densenet", "unet")
# Two arrays go up side by side: which of them a sublayer is of is the trunk's to say.
SIDE_BY_SIDE = ("two_streams", "x0_again")
TRUNKS = [name for name in PROGRAMS if name not in (*WITHOUT_TRUNK, *SIDE_BY_SIDE)]
UNNAMED = ("momentum",)  # whose lanes, x' = x + γ v + (1 − γ) F, no wiring has
UNIFORM = ("norm_after_branch", "post_for_pre")  # in all layers a wiring of its own


def rows(names, few):
    return [pytest.param(name, marks=() if name in few else pytest.mark.further) for name in names]


def made(name):
    if name in MUTANTS:
        return MUTANTS[name]().program
    return (PROGRAMS | RIGHT)[name]()


def diagnosis(name, expect=None, **changed) -> Diagnosis:
    program = made(name)
    return gf.diagnose(program.loss, changed.get("params", program.params), program.batch, expect=expect)


def marked(*source, mark="stream") -> list[str]:
    """The lines of these functions that are marked, as a report names them."""
    return [f"{Path(line.file).name}:{line.number}" for line in marked_lines(*source, mark=mark)]


# ---- right programs, and mutants ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", rows([*TRUNKS, *RIGHT], FEW))
def test_nothing_is_found_in_a_right_program(name):
    program = made(name)
    for expect in (None,) if name in UNNAMED else (None, program.wiring):
        report = diagnosis(name, expect)
        assert report.ok, str(report)
        assert len(report.sublayers) == program.layers


@pytest.mark.parametrize("name", rows(MUTANTS, FEW_MUTANTS))
def test_the_mistake_of_a_mutant_is_found_at_its_line_and_no_other(name):
    mutant = MUTANTS[name]()
    report = diagnosis(name, mutant.program.wiring)
    assert [mutant.mistake in finding.mistakes for finding in report.findings] == [True], str(report)
    (finding,) = report.findings
    found = {(line.file, line.number) for line in finding.lines}
    assert found & set(map(tuple, mutant.lines)), str(report)


@pytest.mark.parametrize("name", rows(MUTANTS, {"plain/norm_after_branch/layer_1"}))
def test_without_an_expectation_layers_are_compared_with_one_another(name):
    mutant = MUTANTS[name]()
    found = [mistake for finding in diagnosis(name).findings for mistake in finding.mistakes]
    is_a_wiring = mutant.mistake in UNIFORM and mutant.only_layer is None
    assert (mutant.mistake in found) != is_a_wiring


@pytest.mark.parametrize("name", rows(["nnx/double_norm", *RIGHT], set()))
def test_parameters_of_the_start_tell_as_much(name):
    program = made(name)
    before, after = diagnosis(name), diagnosis(name, params=fresh(program.params))
    assert str(before) == str(after)


# ---- what a sublayer is ---------------------------------------------------------------------------------------

EQUATIONS = {
    "plain_loop": ["x + F(LayerNorm(x))"],
    "bert": ["LayerNorm(x + F(x))"],
    "deepnorm": ["LayerNorm(1.565 x + F(x))"],
    "gemma2": ["x + RMSNorm(F(RMSNorm(x)))"],
    "olmo2": ["x + RMSNorm(F(x))"],
    "layerscale": ["x + λ ⊙ F(LayerNorm(x))"],
    "rezero": ["x + a F(x)"],
    "no_norms": ["x + F(x)"],
    "gptj": ["x + F₁(LayerNorm(x)) + F₂(LayerNorm(x))"],
    "resnet": ["x + F(GroupNorm(x))"],
    "lanes": ["A x + λ ⊙ F(LayerNorm(x))"],
    "plain/added_twice": ["2 x + F(LayerNorm(x))", "x + F(LayerNorm(x))"],
    "plain/sum_from_norm": ["x + F(LayerNorm(x))", "LayerNorm(x) + F(LayerNorm(x))"],
}


@pytest.mark.parametrize("name", rows(EQUATIONS, {"plain_loop", "plain/added_twice"}))
def test_every_sublayer_is_an_instance_of_equation_1(name):
    equations = [sublayer.equation for sublayer in diagnosis(name).sublayers]
    wanted = EQUATIONS[name]
    assert equations == wanted * (len(equations) // len(wanted))


KINDS = {
    "scan_blocks": {"attention, causal", "token-wise"},
    "bert": {"attention, all tokens", "token-wise"},
    "mixer": {"tokens coupled, all tokens", "token-wise"},
    "mamba": {"tokens coupled, causal"},
    "moe": {"attention, causal", "token-wise"},
    "encoder_decoder": {"attention, all tokens", "attention, causal", "cross-attention", "token-wise"},
}


@pytest.mark.parametrize("name", rows(KINDS, {"scan_blocks"}))
def test_a_branch_is_told_by_how_it_couples_tokens(name):
    assert {sublayer.kind for sublayer in diagnosis(name).sublayers} == KINDS[name]


def test_a_sublayer_stands_at_the_line_of_its_sum():
    lines = {str(sublayer.line) for sublayer in diagnosis("plain").sublayers}
    assert lines == set(marked(plain.block))


def test_one_function_written_in_two_ways_is_named_by_both():
    (finding,) = diagnosis("plain/norm_on_path").findings
    assert finding.mistakes == ("norm_on_path", "sum_from_norm")


# ---- other ways to write, and other mistakes --------------------------------------------------------------------


def added_and_normed(x, y, p):
    return plain.norm(x + y, p)


def post_norm_by_a_function(x, p):
    x = added_and_normed(x, plain.attention(x, p), p["norm1"])
    return added_and_normed(x, plain.mlp(x, p), p["norm2"])


def post_norm_on_lines_of_its_own(x, p):
    x = x + plain.attention(x, p)
    x = plain.norm(x, p["norm1"])
    x = x + plain.mlp(x, p)
    x = plain.norm(x, p["norm2"])
    return x


def attention_with_scores(score, mask, x, p):
    q, k, v = plain.split(x, p)
    scores = jnp.where(mask(jnp.ones((8, 8), bool)), score * (q @ k.mT), -jnp.inf)
    return (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape) @ p["out"]


def with_attention(attention):
    def block(x, p):
        x = x + attention(plain.norm(x, p["norm1"]), p)
        x = x + plain.mlp(plain.norm(x, p["norm2"]), p)
        return x

    return block


def norm_over_tokens(x, p):
    normed = (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5) * p["norm1"]["scale"]
    x = x + plain.attention(normed, p)
    x = x + plain.mlp(plain.norm(x, p["norm2"]), p)
    return x


def scanned(block):
    def run(params, tokens):
        x = params["token"][tokens]
        layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params["layers"])
        x, _ = jax.lax.scan(lambda x, p: (block(x, p), None), x, layers)
        return plain.norm(x, params["norm"]) @ params["head"]

    return run


def unrolled(block):
    return lambda params, tokens: plain.forward(params, tokens, (block,) * 3)


OTHERS = {
    "post-norm by a function": (post_norm_by_a_function, "post", None),
    "post-norm on lines of its own": (post_norm_on_lines_of_its_own, "post", None),
    "a norm on the path": (plain.norm_on_path, "pre", "norm_on_path"),
    "no residual sum": (plain.no_add, "pre", "no_add"),
    "a shared norm": (plain.shared_norm, "pre", "shared_norm"),
    "scores times √d": (with_attention(partial(attention_with_scores, 2.0, jnp.tril)), "pre", "unscaled_scores"),
    "a mask upside down": (with_attention(partial(attention_with_scores, 0.5, jnp.triu)), "pre", "no_causal_mask"),
    "a norm over tokens": (norm_over_tokens, "pre", "norm_over_tokens"),
}


@pytest.mark.parametrize("stack", [scanned, pytest.param(unrolled, marks=pytest.mark.further)])
@pytest.mark.parametrize("name", OTHERS)
def test_a_block_is_told_however_it_is_written(name, stack):
    block, wiring, mistake = OTHERS[name]
    program = RIGHT["plain"]()
    run = stack(block)
    loss = lambda params, batch: cross_entropy(run(params, batch["inputs"]), batch["targets"])
    report = gf.diagnose(loss, program.params, program.batch, expect=wiring)
    assert [mistake in finding.mistakes for finding in report.findings] == ([True] if mistake else []), str(report)
    assert len(report.sublayers) == (3 if mistake == "no_add" else 6)


def test_a_function_that_sums_for_several_kinds_is_not_their_line():
    program = RIGHT["plain"]()
    run = scanned(post_norm_by_a_function)
    report = gf.diagnose(lambda params, batch: run(params, batch["inputs"]).mean(), program.params, program.batch)
    first, second = report.sublayers[:2]
    assert second.line.number == first.line.number + 1


# ---- what is expected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expect", "mistake"),
    [
        ("plain", "post", "pre_for_post"),
        ("plain", "sandwich", "no_norm_branch"),
        ("plain", "res_post", "branch_for_pre"),
        ("plain", "layerscale", "write"),
        ("plain", "deepnorm", "pre_for_post"),
        ("plain", gf.Wiring("mine", norm_out=gf.norms.LayerNorm()), "pre_for_post"),
    ],
)
def test_what_is_not_as_expected_is_said(name, expect, mistake):
    findings = diagnosis(name, expect).findings
    if (
        mistake == "branch_for_pre"
    ):  # named from what is found: the norm of the input has taken the place of the output's
        mistake = "pre_for_branch"
    assert mistake in [own for finding in findings for own in finding.mistakes]


def test_a_wiring_on_lanes_is_not_compared_and_the_report_says_so():
    report = diagnosis("plain", "hyper_connections")
    assert report.ok
    assert "lanes" in report.undecided[0]


# ---- what can't be told ---------------------------------------------------------------------------------------


def test_a_branch_whose_gain_is_zero_is_told_from_before_it():
    report = diagnosis("rezero_start")
    assert {sublayer.kind for sublayer in report.sublayers} == {"attention, causal", "token-wise"}
    assert "zero" in report.undecided[0]


@pytest.mark.further
def test_scores_of_normalized_queries_have_no_scale_to_be_told():
    report = diagnosis("gpt2_qk_norm")
    assert report.ok
    assert "normalized" in report.undecided[0]


def test_a_final_norm_after_post_norm_may_have_been_meant_as_pre_norm():
    report = diagnosis("plain/post_for_pre")
    assert report.ok
    assert "expect='pre'" in report.undecided[0]


@pytest.mark.parametrize("name", WITHOUT_TRUNK)
def test_where_there_is_no_trunk_the_report_says_what_goes_past(name):
    report = diagnosis(name)
    assert not report.ok
    assert str(report) == report.no_trunk
    assert len(str(report).splitlines()) == 1


# ---- tests of functions ---------------------------------------------------------------------------------------

SHAPE, EPS = (2, 4, 16), 1e-3


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + EPS)


def rms_norm(x):
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + EPS)


def rms_norm_with_eps_outside(x):
    return x / (jnp.sqrt((x * x).mean(-1, keepdims=True)) + EPS)


def batch_norm(x):
    return (x - x.mean((0, 1))) / jnp.sqrt(x.var((0, 1)) + EPS)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    ("function", "kind", "eps_outside"),
    [
        (layer_norm, "LayerNorm", False),
        (rms_norm, "RMSNorm", False),
        (rms_norm_with_eps_outside, "RMSNorm", True),
        (batch_norm, "BatchNorm", False),
    ],
)
def test_a_norm_is_told_by_what_it_does(function, kind, eps_outside, dtype):
    norm = norm_of(jax.jit(lambda x: function(jnp.asarray(x, jnp.float32)).astype(dtype)), SHAPE, dtype)
    assert (norm.kind, norm.eps_outside) == (kind, eps_outside)
    np.testing.assert_allclose(norm.eps, EPS, rtol=0.5)


@pytest.mark.parametrize("function", [jnp.tanh, jax.nn.softmax, jax.nn.relu, jnp.zeros_like, jnp.cumsum, jnp.square])
def test_other_functions_are_no_norms(function):
    assert norm_of(jax.jit(lambda x: function(x).reshape(SHAPE)), SHAPE, jnp.float32) is None


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.cumsum(x, axis=1), "causal"),
        (lambda x: x + x.mean(1, keepdims=True), "all tokens"),
        (np.tanh, "token-wise"),
        (lambda x: np.cumsum(x[:, ::-1], axis=1)[:, ::-1], "later tokens alone"),
    ],
)
def test_tokens_are_coupled_as_changes_reach(function, words):
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    assert coupling(function, x, (1,)).words == words


# ---- the answer -----------------------------------------------------------------------------------------------


def test_a_report_is_one_screen_of_text():
    text = str(diagnosis("scan_blocks")).splitlines()
    assert text[0] == "8 residual sublayers"
    attention, mlp = marked(plain_scan.block)
    assert f"sublayers 0–7: x + F(RMSNorm(x)), {attention} (attention, causal), {mlp} (token-wise)" in text[1]
    assert text[2] == "nothing found wrong"


def test_numbers_are_put_together_in_ranges():
    assert ranges([0, 1, 2, 5]) == "0–2, 5"
    assert ranges([0, 2, 4, 6]) == "0, 2, …, 6"
    assert ranges([3]) == "3"


def test_steps_that_come_again_are_drawn_once():
    line = diagnosis("plain").sublayers[0].line
    a, b, c = (Step(kind, kind, line) for kind in ("norm", "sublayer", "matrix"))
    groups = repeated((a, b, a, b, a, b, c))
    assert [(group.steps, group.times) for group in groups] == [((a, b), 3), ((c,), 1)]


def test_a_picture_has_every_sublayer_and_marks_what_is_found():
    report = diagnosis("plain/norm_on_path/layer_1")
    ax = gf.plot.trunk(report)
    words = [text.get_text() for text in ax.texts]
    assert words.count("attention, causal") == words.count("token-wise") == 3
    assert words.count("LayerNorm") == 7
    assert marked(plain.norm_on_path, mark="mistake")[0] in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_fn": 1}, "loss_fn is 1: a function is needed"),
        ({"params": {"f": jnp.tanh}}, "params['f'] is"),
        ({"expect": "prr"}, "'pre'"),
    ],
)
def test_errors_are_one_line(change, message):
    given = {"loss_fn": lambda params, batch: 0.0, "params": {}, "batch": {}, "expect": None} | change
    with pytest.raises((TypeError, ValueError)) as error:
        gf.diagnose(given["loss_fn"], given["params"], given["batch"], expect=given["expect"])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


# ---- the command line -----------------------------------------------------------------------------------------

FILE = """
from programs.models import RIGHT
from programs.models import plain_scan
from programs.models.mistaken import plain

def decoder():
    program = plain.MUTANTS["plain/post_for_pre"]().program
    return program.loss, program.params, program.batch

number = 1
"""


def test_a_file_is_diagnosed_and_drawn(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(FILE)
    picture = tmp_path / "trunk.png"
    words = ["gradflow", "diagnose", f"{tmp_path}/mine.py:decoder", "--expect", "pre", "--picture", str(picture)]
    monkeypatch.setattr(sys, "argv", words)
    cli.main()
    (line, _) = marked(plain.post_for_pre, mark="mistake")
    assert f"✗ {line}" in capsys.readouterr().out
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("mine.py", "give FILE.py:NAME"),
        ("none.py:decoder", "no file none.py"),
        ("mine.py:missing", "has no attribute 'missing'"),
        ("mine.py:number", "gives a int: (loss_fn, params, batch) is needed"),
    ],
)
def test_what_is_no_program_is_refused_in_one_line(word, message, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        named.program(word)
    assert len(str(error.value).splitlines()) == 1
