"""The parts of a record: which number is the depth, which steps there are, whether the parts are the whole; and every refusal."""

import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow.interop.logs import paths, writers
from gradflow.results import settings


def values(run, name: str = "layer_gradient") -> np.ndarray:
    return run["model"][name].isel(seed=0).values


def source(run) -> dict:
    return settings(run["model"])["configuration"]


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# ---- which number is the depth ------------------------------------------------------------------------------


def of_keys(*keys: str, **options) -> dict:
    run = gf.logged({f"grad_norm/{key}": 1.0 + i for i, key in enumerate(keys)}, **options)["model"]
    return {"depth": run.sizes["sublayer"], "parameters": run["parameter"].values.tolist()}


@pytest.mark.parametrize(
    ("key", "parameter"),
    [
        ("layers_{}/kernel", "kernel"),
        ("model.layers.{}.w", "w"),
        ("transformer.h.{}.attn.c_attn.weight", "attn.c_attn.weight"),
        ("block_{}", "all"),
        ("blocks/{}/mlp/w1", "mlp/w1"),
        ("layer{}.w", "w"),
        ("h{}/w", "w"),
        ("encoderblock_{}/MlpBlock_0/Dense_0/kernel", "MlpBlock_0/Dense_0/kernel"),
        ("encoder.block.{}.layer.0.SelfAttention.q.weight", "layer.0.SelfAttention.q.weight"),
        ("layers.{}.mlp.experts.40.w1.weight", "mlp.experts.40.w1.weight"),
        ("0.layers.{}.w", "w"),
        ("towers.{}.w", "w"),
        ("block_0.layers.{}.w", "w"),
        ("my run - grad_norm/layers.{}.w", "w"),
    ],
)
def test_the_number_of_the_layer_is_found_and_sorted_as_a_number(key, parameter):
    numbers = [10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9, 11]
    named = {key.format(i) if "grad_norm/" in key else f"grad_norm/{key.format(i)}": float(i) for i in numbers}
    run = gf.logged(named)["model"]
    assert run["layer_gradient"].values[0, 0].tolist() == list(range(12))
    assert run["parameter"].values.tolist() == [parameter]


def test_layers_counted_from_one_are_there_as_they_are():
    run = gf.logged({f"grad_norm/layer{i}": float(i) for i in range(1, 5)})
    assert values(run)[0].tolist() == [1, 2, 3, 4]
    assert source(run)["first_layer"] == 1


@pytest.mark.parametrize("experts", [2, 64])
def test_experts_and_parts_of_a_layer_are_no_depth(experts):
    keys = [f"layers.{i}.mlp.experts.{e}.w{n}" for i in range(3) for e in range(experts) for n in (1, 2, 3)]
    assert of_keys(*keys)["depth"] == 3
    keys = [f"blocks_{i}_Mlp_{m}_Dense_{d}_kernel" for i in range(2) for m in range(3) for d in range(4)]
    assert of_keys(*keys)["depth"] == 2


def test_a_parameter_that_some_layers_lack_is_nan_there_and_not_in_the_layers_norm():
    run = gf.logged({"g/layers.0.a": 3.0, "g/layers.0.b": 4.0, "g/layers.1.a": 2.0}, prefix="g/")
    assert values(run)[0].tolist() == [5, 2]
    np.testing.assert_array_equal(values(run, "parameter_gradient")[0], [[3, 4], [2, np.nan]])


TWO_STACKS = [f"{side}.layers.{i}.w" for side, depth in (("encoder", 4), ("decoder", 3)) for i in range(depth)]


def test_of_several_stacks_the_one_that_is_named_is_read_and_the_others_are_outside():
    assert of_keys(*TWO_STACKS, layers="decoder.layers")["depth"] == 3
    assert of_keys(*TWO_STACKS, layers="encoder.layers.")["depth"] == 4
    run = gf.logged(
        {"grad_norm/enc/layers/w": [1.0, 2.0, 2.0], "grad_norm/dec/layers/w": [1.0, 2.0]}, layers="dec/layers"
    )
    assert values(run)[0].tolist() == [1, 2]
    assert values(run, "outer_gradient")[0].tolist() == [3]


def test_layers_that_are_missing_are_nan_where_their_stack_is_named():
    run = gf.logged({f"grad_norm/h.{i}.w": 1.0 for i in (0, 1, 3)}, layers="h")
    np.testing.assert_array_equal(values(run)[0], [1, 1, np.nan, 1])


def test_bare_paths_leave_out_what_is_no_parameter():
    row = {"loss": 3.0, "lr": 1e-3, "step": 7, "embed/embedding": 2.0, "final/scale": 1.0, "groups": [1.0, 2.0]}
    run = gf.logged(row | {f"layers_{i}/kernel": 1.0 for i in range(3)})
    assert run["model"]["outer"].values.tolist() == ["embed/embedding", "final/scale"]
    assert source(run)["ignored"] == 3


def test_a_prefix_names_the_norms_of_a_tool_that_is_not_known():
    row = {"mine:layers.0.w": 1.0, "mine:layers.1.w": 2.0, "mine:total": 5**0.5, "other:layers.0.w": 7.0}
    run = gf.logged(row, prefix="mine:")
    assert values(run)[0].tolist() == [1, 2]
    assert list(source(run)["totals"]) == ["mine:total"]


# ---- steps, and what is not finite --------------------------------------------------------------------------


def of_steps(*steps_and_values, **options):
    """A record of one parameter in two layers, of which the first has these values at these steps."""
    lines = [{"step": step, "grad_norm/h.0.w": value, "grad_norm/h.1.w": 1.0} for step, value in steps_and_values]
    return gf.logged(lines, **options)


@pytest.mark.parametrize("nan", ["NaN", "nan", float("nan"), np.float32("nan")])
@pytest.mark.parametrize("inf", ["Infinity", "inf", float("inf")])
def test_what_is_not_finite_keeps_its_place(nan, inf):
    run = of_steps((0, 1.0), (5, nan), (6, inf), (100, "2.5"))
    np.testing.assert_array_equal(run["step"], [0, 5, 6, 100])
    np.testing.assert_array_equal(values(run)[:, 0], [1, np.nan, np.inf, 2.5])


@pytest.mark.parametrize("nothing", [None, "", " ", pd.NA])
def test_one_of_several_that_was_not_logged_is_nan_and_a_step_without_norms_is_none(nothing):
    run = of_steps((0, 1.0), (5, nothing))
    np.testing.assert_array_equal(values(run), [[1, 1], [np.nan, 1]])
    lines = [{"step": 0, "grad_norm/h.0.w": 1.0}, {"step": 1, "grad_norm/h.0.w": nothing, "loss": 2.0}]
    assert gf.logged([*lines, {"loss": 1.0}])["step"].values.tolist() == [0]


def test_a_table_keeps_its_nan():
    frame = pd.DataFrame({"step": [0, 1], "grad_norm/h.0.w": [1.0, np.nan], "grad_norm/h.1.w": [1.0, np.nan]})
    np.testing.assert_array_equal(values(gf.logged(frame)), [[1, 1], [np.nan, np.nan]])


def test_the_last_number_of_a_step_counts_and_that_is_told():
    run = of_steps((0, 1.0), (1, 2.0), (2, 9.0), (1, 3.0), (2, 4.0), (2, 4.0))
    assert values(run)[:, 0].tolist() == [1, 3, 4]
    assert source(run)["repeated"] == 2
    assert source(of_steps((0, 1.0), (0, 1.0)))["repeated"] == 0


def test_a_step_that_is_logged_in_pieces_is_one():
    pieces = [
        {"_step": 4, "grad_norm/h.0.w": 1.0},
        {"_step": 4, "grad_norm/h.1.w": 2.0},
        {"_step": 4, "grad-norm": 5**0.5},
    ]
    run = gf.logged(pieces)
    assert values(run).tolist() == [[1, 2]]
    assert source(run)["totals"]["grad-norm"]["steps"] == 1


def test_the_most_explicit_step_is_taken_or_the_one_that_is_named():
    row = {"_step": 7.0, "trainer/global_step": 700, "samples": 5600, "grad_norm/h.0.w": 1.0}
    assert gf.logged([row])["step"].item() == 700
    assert gf.logged([row], step="samples")["step"].item() == 5600
    assert gf.logged([{"tick": 3, "grad_norm/h.0.w": 1.0}], step="tick")["step"].item() == 3


# ---- the parts and the whole --------------------------------------------------------------------------------


def with_total(totals, **options):
    """Two steps whose parts make 5 and 10, and these totals."""
    lines = []
    for step, (scale, total) in enumerate(zip((1, 2), totals, strict=True)):
        lines.append({"step": step, "grad_norm/h.0.w": 3.0 * scale, "grad_norm/h.1.w": 4.0 * scale, "grad_norm": total})
    return gf.logged(lines, **options)


DISAGREEING = {
    "clipped": ((1.0, 1.0), r"make 10 at step 1, and 'grad_norm' says 1; the total is from after clipping at 1"),
    "clipped at some": ((5.0, 6.0), "make 10 at step 1, and 'grad_norm' says 6; the total may be from after clipping"),
    "missing parts": ((6.0, 11.0), "make 5 at step 0, and 'grad_norm' says 6; parts are missing"),
    "another gradient": ((9.0, 2.0), "they are of different gradients"),
}


@pytest.mark.parametrize("case", DISAGREEING)
def test_a_total_that_the_parts_are_not_is_refused_unless_it_is_said_not_to_matter(case):
    totals, words = DISAGREEING[case]
    with pytest.raises(ValueError, match=words) as refused:
        with_total(totals)
    assert "check=False" in one_line(refused)
    run = with_total(totals, check=False)
    assert values(run).tolist() == [[3, 4], [6, 8]]
    assert source(run)["totals"]["grad_norm"]["difference"] > 0.1
    assert "grad_norm missed by" in settings(run)["logged"]["model"]


def test_rounding_and_steps_that_are_not_finite_are_no_disagreement():
    assert source(with_total((5.02, "NaN")))["totals"]["grad_norm"] == {
        "difference": pytest.approx(0.004, abs=1e-4), "at_step": 0, "is": "the root of summed squares", "steps": 1}  # fmt: skip
    assert source(with_total((None, None)))["totals"] == {}
    assert source(with_total(("NaN", "NaN")))["totals"]["grad_norm"]["steps"] == 0


# ---- refusals -----------------------------------------------------------------------------------------------


def of(*keys: str, value=1.0) -> dict:
    return {f"grad_norm/{key}": value for key in keys}


REFUSED = {
    "no layers": ({"loss": 1.0}, {}, "no key of the record is known for a norm and has .* keys: 'loss'"),
    "norms without layers": (of("embed", "head"), {}, "no key of the record is known"),
    "histograms": ({"gradients/h.0.w": {"_type": "histogram"}, "_step": 1}, {}, "a histogram, as wandb.watch writes it"),
    "another norm": ({"grad_inf_norm/h.0.w": 1.0, "grad_inf_norm_total": 1.0}, {}, "is no 2-norm"),
    "a gap": (of("h.0", "h.1", "h.3"), {}, "layer 2 of 'h' is not in the record.*layers='h'"),
    "a late start": (of("layers.4.w", "layers.5.w"), {}, "layer 1 of 'layers' is not in the record"),
    "two stacks": (of(*TWO_STACKS), {}, r"several stacks, 'encoder.layers' \(4\), 'decoder.layers' \(3\)"),
    "two stacks of no word": (of("a.0", "a.1", "b.0", "b.1"), {}, "several stacks, 'a'"),
    "a name of two": (of(*TWO_STACKS), {"layers": "layers"}, "layers='layers' are several stacks"),
    "no such stack": (of("h.0", "h.1"), {"layers": "blocks"}, "no stack layers='blocks' in the record, which has 'h'"),
    "no such list": (of("layers/w", value=[1.0, 2.0]), {"layers": "blocks"}, "no list over layers is in layers='blocks'"),
    "too many layers": (of("h.0", "h.999999999"), {"layers": "h"}, "has the number 999999999"),
    "lists of two lengths": (of("h/a", value=[1.0]) | of("h/b", value=[1.0, 2.0]), {}, "several stacks: .*over 1 layers"),
    "lists and keys": (of("layers/a", value=[1.0, 2.0]) | of("h.0", "h.1"), {}, "is a list over layers, but 'h' has a key"),
    "a list that changes": ([of("h/a", value=[1.0] * n) | {"step": n} for n in (1, 2)], {}, "of the shapes"),
    "an entry is missing": (of("layers/w[0]", "layers/w[2]"), {}, "has the entries 0, 2"),
    "an entry and the whole": (of("layers/w[0]", "layers/w"), {}, "with an entry and without"),
    "two models": ({f"{m}/grad_norm/h.{i}": 1.0 for m in "ab" for i in (0, 1)}, {}, "two models, behind 'a/grad_norm/' and"),
    "two models, bare": ({f"{m}/h.{i}.w": 1.0 for m in ("a", "b") for i in (0, 1)}, {}, "several stacks, 'a/h'"),
    "two tools": (of("h.0", "h.1") | {"grad/norm/h.0": 1.0}, {}, "as a loop of one's own writes them and as levanter"),
    "two runs": ([of("h.0", value=v) | {"step": s} for v, s in ((1.0, 0), (2.0, 1), (3.0, 0))], {}, "holds two runs"),
    "a layer and its parts": (of("h.0", "h.0.w"), {}, "'a whole layer of h' and a part of it, 'w'"),
    "a part and its parts": (of("h.0.a", "h.0.a.w", "h.1.a"), {}, "'a' and a part of it, 'a.w'"),
    "the stack and its layers": (of("h", "h.0.w", "h.1.w"), {}, "'h' and a part of it"),
    "outside, and its parts": (of("h.0", "head", "head/w"), {}, "'head' and a part of it, 'head/w'"),
    "a shard is missing": (of("h.0/shard_0", "h.0/shard_2"), {}, "has the shards 0, 2: .* no shards"),
    "a stage of a pipeline": ({f"rank1/grad_norm/h.{i}": 1.0 for i in (0, 1)}, {}, "has the shards 1"),
    "a shard and the whole": (of("h.0", "h.0/shard_0"), {}, "as a whole and in shards"),
    "an rms": ({f"grads/blocks_{i}_w_rms": 1.0 for i in (0, 1)}, {}, "is no norm, and not its size: add 'n_params/"),
    "logarithms": (of("h.0", value=-3.0), {}, "has negative numbers"),
    "no step": ([of("h.0"), of("h.0")], {}, "no key of the record is the step.*step='…'"),
    "no such step": (of("h.0") | {"step": 1}, {"step": "tick"}, "no key step='tick'"),
    "a step that is none": (of("h.0") | {"step": 1.5}, {}, "row 1 of the record has norms, and 1.5 for its step 'step': a whole"),
    "a step that is text": (of("h.0") | {"step": "one"}, {}, "and 'one' for its step"),
    "a row without a step": ([of("h.0") | {"step": 1}, of("h.0") | {"step": None}], {}, "row 2 .* has norms, and None for"),
    "an error among numbers": ([of("h.0", value=v) | {"step": i} for i, v in enumerate((1.0, "err"))], {}, "is 'err' in row 2"),
    "lists of each layer": (of("h.0", "h.1", value=[1.0, 2.0]), {}, "'grad_norm/h.0'|'h.0' is a list over layers, but 'h' has"),
    "no such prefix": (of("h.0"), {"prefix": "mine/"}, "begins with prefix='mine/'; keys: 'grad_norm/h.0'"),
    "no rows": ([], {}, "has no rows"),
    "nothing": ({}, {}, "no key of the record"),
    "rows that are none": ([1.0, 2.0], {}, "a row of the record is 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_read_is_one_line(case):
    record, options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as refused:
        gf.logged(record, **options)
    one_line(refused)


FILES = {
    "empty": (b" \n", "is empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\xff", "is no text in UTF-8"),
    "a text": (b"Once upon a time\nthere was a log\n", "is neither JSON nor a table of CSV"),
    "a broken row": (b'{"step": 1, "grad_norm/h.0": 1}\n{"step": 2, "gra', r"is no JSON \(.*line 2\)"),
    "deep": (b"[" * 100_000, "is no JSON"),
    "numbers": (b"[1, 2]", "a row of .* is 1"),
    "a short line": (b"step,grad_norm/h.0\n1,2\n3\n", "line 3, has 1 cells, its header 2"),
    "columns alike": (b"step,grad_norm/h.0,grad_norm/h.0\n1,2,3\n", "has 2 columns 'grad_norm/h.0'"),
    "a header alone": (b"step,grad_norm/h.0\n", "has no rows"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_record_is_one_line(case, tmp_path):
    content, words = FILES[case]
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(ValueError, match=words) as refused:
        gf.logged(tmp_path / "log")
    one_line(refused)


@pytest.mark.parametrize("record", [3, None, b"log.csv", 1.5])
def test_what_is_no_record_is_told_what_is(record):
    with pytest.raises(TypeError, match=r"a pandas\.DataFrame") as refused:
        gf.logged(record)
    one_line(refused)


def test_a_file_that_is_not_there_and_the_model_whose_record_is_wrong_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        gf.logged("nowhere.jsonl")
    with pytest.raises(ValueError, match=r"^post: no key of the record"):
        gf.logged({"pre": of("h.0"), "post": {"loss": 1.0}})
    for option in ({"check": "no"}, {"layers": 3}, {"prefix": b"a"}, {"step": 0}):
        with pytest.raises(TypeError, match=f"{next(iter(option))} is .* is needed"):
            gf.logged(of("h.0"), **option)


@pytest.mark.parametrize("writer", writers.WRITERS, ids=lambda writer: writer.name)
def test_a_writer_reads_no_key_of_another(writer):
    keys = {
        writers.LEVANTER: "grad/norm/layers.0.w",
        writers.LIGHTNING: "grad_2.0_norm/layers.0.w",
        writers.BRIDGE: "l2_norm/grad/layers.0.w",
        writers.NANODO: "grads/blocks_0_w_rms",
        writers.OLMO: "grad/blocks.0.w.norm",
        writers.LOOP: "grad_norm/layers.0.w",
    }
    assert [other for other, key in keys.items() if writer.match(key)] == [writer]
    assert writer.match(f"train/{keys[writer]}").lead == "train/"


def test_the_place_of_a_path_is_left_of_nothing():
    stack = paths.Stack("layers.", (0, 1))
    assert stack.place("layers.1.w") == ("w", 1)
    assert stack.place("layers.norm.1") is None
    assert stack.place("other.layers.1.w") is None
