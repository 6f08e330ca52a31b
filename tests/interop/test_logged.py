"""Norms that other tools logged: read as they were written, whatever the tool, the file, the order, the shards; or one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gradflow as gf
from gradflow.interop.logs import writers
from gradflow.results import settings

DEPTH, STEPS = 12, (0, 10, 40)
NAMES = {  # of one layer's parameters, in each tool's words
    "torch": ("self_attn.q_proj.weight", "mlp.up_proj.weight", "input_layernorm.weight"),
    "megatron": ("self_attention.linear_qkv.weight", "mlp.linear_fc1.weight", "mlp.linear_fc2.weight"),
    "flax": ("CausalAttn_0/query/kernel", "Mlp_0/Dense_0/kernel", "Mlp_0/Dense_1/kernel"),
}
EXACT = 1e-12


def gradients(step: int) -> dict:
    """A model's gradient: arrays of its layers [L][P], and of two parameters outside."""
    draw = np.random.default_rng(step).normal
    layers = [[draw(size=(3, 2 + p)) * 1.3**layer for p in range(3)] for layer in range(DEPTH)]
    return {"layers": layers, "outer": [draw(size=(5, 3)), draw(size=7)]}


TRUTH = {step: gradients(step) for step in STEPS}


def norm(*arrays) -> float:
    """Of all the arrays together."""
    return float(np.linalg.norm(np.concatenate([np.ravel(array) for array in arrays])))


def everything(gradient: dict) -> list:
    return [*(array for layer in gradient["layers"] for array in layer), *gradient["outer"]]


LAYERS = np.array([[norm(*layer) for layer in TRUTH[step]["layers"]] for step in STEPS])
INSIDE = np.array([[[norm(array) for array in layer] for layer in TRUTH[step]["layers"]] for step in STEPS])
OUTSIDE = np.array([[norm(array) for array in TRUTH[step]["outer"]] for step in STEPS])
TOTAL = np.array([norm(*everything(TRUTH[step])) for step in STEPS])


def flat(step: int, of_layer: str, parameters, outer) -> dict:
    """Arrays by the names of parameters; `of_layer` has the layer's number in braces."""
    gradient, named = TRUTH[step], dict(zip(outer, TRUTH[step]["outer"], strict=True))
    for number, layer in enumerate(gradient["layers"]):
        named |= {f"{of_layer.format(number)}{name}": array for name, array in zip(parameters, layer, strict=True)}
    return named


def torch_names(step: int) -> dict:
    return flat(step, "model.layers.{}.", NAMES["torch"], ("model.embed_tokens.weight", "model.norm.weight"))


def norms(named: dict, prefix: str) -> dict:
    return {f"{prefix}{name}": norm(array) for name, array in named.items()}


# ---- how each tool writes -----------------------------------------------------------------------------------


def json_lines(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def wandb(folder: Path) -> Path:
    """The history of a run with a loop's own norms, the histograms of `wandb.watch`, and rows of other things."""
    rows = []
    for step in range(0, 41, 5):
        row = {"_step": step, "_runtime": 0.5 * step, "_timestamp": 1.7e9 + step, "train/loss": 3.0, "train/lr": 1e-3}
        if step in STEPS:
            named = torch_names(step)
            row |= norms(named, "grad_norm/") | {"train/grad_norm": TOTAL[STEPS.index(step)]}
            row |= {f"gradients/{name}": {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]} for name in named}
        rows.append(row)
    return json_lines(folder / "history.jsonl", rows)


def levanter(folder: Path, total=lambda logged: norm(list(logged.values()))) -> Path:
    """`WatchCallback` with its trackers in JSON: gradients and parameters, scanned layers taken apart."""
    rows = []
    for step in STEPS:
        named = flat(step, "transformer.layers.{}.", NAMES["torch"], ("embeddings.token_embeddings.weight", "lm_head"))
        logged = norms(named, "grad/norm/")
        row = {"step": step, "train/loss": 3.0, "params/norm/total": 99.0, "params/norm/transformer.layers.0.w": 9.0}
        rows.append({**row, **logged, "grad/norm/total": total(logged)})
    return json_lines(folder / "levanter.jsonl", rows)


def nanodo(folder: Path) -> Path:
    """`get_metrics` with internal metrics on: rms, std and mean of each; sizes and costs at step 0 alone."""
    rows = []
    for step in STEPS:
        named = flat(step, "blocks_{}/", NAMES["flax"], ("embed/embedding", "out_ln/scale"))
        named = {name.replace("/", "_"): array for name, array in named.items()}
        row = {"step": step, "train_loss": 3.0, "learning_rate": 0.1, "params/all/rms": 1.0}
        for kind in ("grads", "updates"):
            for name, array in {**{f"{key}_": a for key, a in named.items()}, "all/": everything(TRUTH[step])}.items():
                values = np.concatenate([np.ravel(a) for a in array]) if name == "all/" else array
                stats = {"rms": np.sqrt(np.mean(values**2)), "std": values.std(), "mean": values.mean()}
                row |= {f"{kind}/{name}{what}": float(number) for what, number in stats.items()}
        if step == 0:
            row |= {f"n_params/{name}": array.size for name, array in named.items()}
            row |= {"n_params/all": sum(array.size for array in named.values()), "flops_lowered": 1e9}
        rows.append(row)
    return json_lines(folder / "datatable.jsonl", rows)


def megatron(folder: Path) -> Path:
    """`report_l2_norm_grad` of Megatron-Bridge, beside what Megatron logs every iteration."""
    rows = []
    for step in range(0, 41, 2):
        row = {"iteration": step, "lm loss": 3.0, "loss-scale": 1.0, "params-norm": 80.0, "num-zeros": 0}
        if step in STEPS:
            outer = ("module.embedding.word_embeddings.weight", "module.decoder.final_layernorm.weight")
            named = flat(step, "module.decoder.layers.{}.", NAMES["megatron"], outer)
            total = TOTAL[STEPS.index(step)]
            row |= norms(named, "l2_norm/grad/") | {"l2_norm/grad/global": total, "grad-norm": total}
        rows.append(row)
    return json_lines(folder / "megatron.jsonl", rows)


def bare(folder: Path) -> Path:
    """A hook's norms under the names of PyTorch, in an array of JSON, with the total that Megatron logs."""
    rows = []
    for step, total in zip(STEPS, TOTAL, strict=True):
        outer = ("module.embedding.word_embeddings.weight", "module.decoder.final_layernorm.weight")
        named = norms(flat(step, "module.decoder.layers.{}.", NAMES["megatron"], outer), "")
        rows.append({"iteration": step, "lm loss": 3.0, "grad-norm": total, "grad-norm vs samples": total, **named})
    path = folder / "bare.json"
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def lightning(folder: Path) -> Path:
    """`self.log_dict(grad_norm(self, norm_type=2))` in the metrics.csv of `CSVLogger`: rows of losses between."""
    rows = []
    for step in STEPS:
        logged = norms(torch_names(step), "grad_2.0_norm/")
        total = {"grad_2.0_norm_total": norm(list(logged.values()))}
        rows += [{"epoch": 0, "step": step, **logged, **total}, {"epoch": 0, "step": step, "train_loss": 2.5}]
    path = folder / "metrics.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return path


TOOLS = {
    wandb: (writers.LOOP, "model.layers", "torch"),
    levanter: (writers.LEVANTER, "transformer.layers", "torch"),
    nanodo: (writers.NANODO, "blocks", "flax"),
    megatron: (writers.BRIDGE, "module.decoder.layers", "megatron"),
    bare: (writers.BARE, "module.decoder.layers", "megatron"),
    lightning: (writers.LIGHTNING, "model.layers", "torch"),
}
each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)


def values(run, name: str = "layer_gradient", model: str = "model") -> np.ndarray:
    return run[model][name].isel(seed=0).values


def source(run, model: str = "model") -> dict:
    return settings(run[model])["configuration"]


@each_tool
def test_a_tools_record_gives_the_norms_of_the_gradient(tool, tmp_path):
    run = gf.logged(tool(tmp_path))
    np.testing.assert_array_equal(run["step"], STEPS)
    np.testing.assert_allclose(values(run), LAYERS, rtol=EXACT)
    np.testing.assert_allclose(values(run, "parameter_gradient"), INSIDE, rtol=EXACT)
    np.testing.assert_allclose(values(run, "outer_gradient"), OUTSIDE, rtol=EXACT)
    writer, stack, words = TOOLS[tool]
    assert (source(run)["written_by"], source(run)["stack"]) == (writer.name, stack)
    expected = [name.replace("/", "_") if tool is nanodo else name for name in NAMES[words]]
    assert run["model"]["parameter"].values.tolist() == expected


@each_tool
def test_the_record_says_where_it_is_from_and_that_its_parts_are_its_whole(tool, tmp_path):
    path = tool(tmp_path)
    told = source(gf.logged(str(path)))
    assert told["file"] == path.name
    assert len(told["sha256"]) == 64
    assert told["columns"] == 3 * DEPTH + 2
    assert told["ignored"] > 0
    assert told["steps"] == len(STEPS)
    assert told["totals"]
    for total in told["totals"].values():
        assert total["difference"] < EXACT
        assert total["is"] == "the root of summed squares"


def test_the_total_that_levanter_logged_at_first_is_the_sum_of_the_norms(tmp_path):
    run = gf.logged(levanter(tmp_path, total=lambda logged: sum(logged.values())))
    assert source(run)["totals"]["grad/norm/total"]["is"] == "the sum of the norms"
    np.testing.assert_allclose(values(run), LAYERS, rtol=EXACT)


def test_an_older_lightning_is_read_too():
    row = norms(torch_names(0), "grad_2.0_norm_") | {"grad_2.0_norm_total": TOTAL[0]}
    np.testing.assert_allclose(values(gf.logged(row)), LAYERS[:1], rtol=EXACT)


def test_olmo_is_read_without_its_other_statistics():
    row = {f"optim/grad/{name}.norm": norm(array) for name, array in torch_names(0).items()}
    row |= {f"optim/grad/{name}.max": 9.0 for name in torch_names(0)} | {"optim/total_grad_norm": TOTAL[0]}
    run = gf.logged(row)
    np.testing.assert_allclose(values(run), LAYERS[:1], rtol=EXACT)
    assert source(run)["written_by"] == "OLMo"


def test_a_real_loop_of_torch_gives_the_norms_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(11)]
    model = torch.nn.ModuleDict({"embed": torch.nn.Linear(4, 8), "layers": torch.nn.Sequential(*layers)})
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    rows, expected = [], []
    for step in range(3):
        optimizer.zero_grad()
        model["layers"](model["embed"](torch.randn(2, 5, 4))).square().mean().backward()
        total = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
        row = {f"gradients/{name}": p.grad.norm().item() for name, p in model.named_parameters()}
        rows.append({"step": step, "grad_norm": total.item(), **row})
        of_layers = [torch.nn.utils.get_total_norm([p.grad for p in one.parameters()]) for one in model["layers"]]
        expected.append([one.item() for one in of_layers])
        optimizer.step()
    run = gf.logged(json_lines(tmp_path / "log.jsonl", rows))
    np.testing.assert_allclose(values(run), expected, rtol=1e-6)
    assert source(run)["totals"]["grad_norm"]["difference"] < 1e-6
    assert run["model"]["outer"].values.tolist() == ["embed.weight", "embed.bias"]


def test_a_run_of_gradflow_written_out_and_read_back_has_the_same_numbers():
    model = gf.transformer("pre", depth=6, width=8, heads=2, context=6)
    measured = gf.measure(model, gf.data.text(context=6, batch=2))["model"].isel(seed=0)
    row = {"step": 0}
    for place in measured["sublayer"].values:
        for name in measured["parameter"].values:
            number = measured["parameter_gradient"].sel(sublayer=place, parameter=name).item()
            row |= {} if np.isnan(number) else {f"grad_norm/sublayers.{place - 1}.{name}": number}
    row |= {f"grad_norm/{name}": measured["outer_gradient"].sel(outer=name).item() for name in measured["outer"].values}
    back = gf.logged([row])["model"].isel(seed=0, step=0)
    names = {"parameter": measured["parameter"], "outer": measured["outer"]}
    np.testing.assert_array_equal(
        back["parameter_gradient"].sel(parameter=names["parameter"]), measured["parameter_gradient"]
    )
    np.testing.assert_array_equal(back["outer_gradient"].sel(outer=names["outer"]), measured["outer_gradient"])


# ---- what must not matter -----------------------------------------------------------------------------------


def rows() -> list[dict]:
    return [
        {"step": step, **norms(torch_names(step), "grad_norm/"), "grad_norm": TOTAL[i]} for i, step in enumerate(STEPS)
    ]


def in_order(run) -> xr.DataTree:
    return run["model"].to_dataset().sortby(["parameter", "outer"])


def test_the_order_of_rows_and_of_columns_does_not_matter():
    shuffled = np.random.default_rng(0).permutation
    turned = [{key: row[key] for key in shuffled(list(row))} for row in rows()[::-1]]
    xr.testing.assert_equal(in_order(gf.logged(turned)), in_order(gf.logged(rows())))


def test_a_file_a_table_rows_and_a_generator_are_the_same(tmp_path):
    expected = gf.logged(rows())["model"].to_dataset()
    frame = pd.DataFrame(rows())
    frame.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "rows.json").write_text(json.dumps(rows()))
    forms = (frame, (row for row in rows()), json_lines(tmp_path / "lines.jsonl", rows()), tmp_path / "table.csv",
             tmp_path / "rows.json")  # fmt: skip
    for form in forms:
        xr.testing.assert_equal(gf.logged(form)["model"].to_dataset(), expected)


def test_one_row_is_one_step():
    run = gf.logged(norms(torch_names(0), "grad_norm/"))
    assert run["step"].values.tolist() == [0]
    np.testing.assert_allclose(values(run), LAYERS[:1], rtol=EXACT)


@pytest.mark.parametrize("form", ["rank{0}/{1}", "{1}/shard_{0}", "tp_rank_{0}/{1}", "{1}.rank{0}"])
def test_shards_are_put_together(form):
    sharded = {"step": 3, "loss": 1.0}
    for name, array in torch_names(0).items():
        pieces = np.array_split(np.ravel(array), 3)
        sharded |= {form.format(i, f"grad_norm/{name}"): norm(piece) for i, piece in enumerate(pieces)}
    run = gf.logged([sharded | {"grad_norm": TOTAL[0]}])
    np.testing.assert_allclose(values(run), LAYERS[:1], rtol=EXACT)
    np.testing.assert_allclose(values(run, "outer_gradient"), OUTSIDE[:1], rtol=EXACT)


def stacked(step: int, form) -> dict:
    """Norms of leaves that are stacked over depth; `form` makes the items of one from its name and its norms [L]."""
    row = {"step": step}
    for name, of_layers in zip(NAMES["flax"], INSIDE[STEPS.index(step)].T, strict=True):
        row |= form(f"grad_norm/params/layers/{name}", of_layers)
    return row | dict(zip(("grad_norm/embed", "grad_norm/ln"), OUTSIDE[STEPS.index(step)], strict=True))


STACKED = {
    "a list": lambda name, norms: {name: norms.tolist()},
    "an array": lambda name, norms: {name: norms},
    "a list in a cell": lambda name, norms: {name: json.dumps(norms.tolist())},
    "keys with an index": lambda name, norms: {f"{name}[{i}]": x for i, x in enumerate(norms)},
    "keys of layers": lambda name, norms: {name.replace("layers", f"layers_{i}"): x for i, x in enumerate(norms)},
    "JAX's paths": lambda name, norms: {
        "grad_norm/" + "".join(f"['{word}']" for word in name.replace("layers", f"layers_{i}").split("/")[1:]): x
        for i, x in enumerate(norms)
    },
    "Flax's tuples": lambda name, norms: {
        ("grad_norm", *name.replace("layers", f"layers_{i}").split("/")[1:]): x for i, x in enumerate(norms)
    },
}


@pytest.mark.parametrize("form", STACKED)
def test_stacked_layers_are_those_of_keys_of_their_own(form):
    run = gf.logged([stacked(step, STACKED[form]) for step in STEPS])
    np.testing.assert_allclose(values(run), LAYERS, rtol=EXACT)
    np.testing.assert_allclose(values(run, "parameter_gradient"), INSIDE, rtol=EXACT)
    assert run["model"]["parameter"].values.tolist() == list(NAMES["flax"])
    assert source(run)["stack"] == "params/layers"


def test_layers_and_what_is_outside_make_the_total():
    run = gf.logged(rows())
    squares = (values(run) ** 2).sum(-1) + (values(run, "outer_gradient") ** 2).sum(-1)
    np.testing.assert_allclose(np.sqrt(squares), TOTAL, rtol=EXACT)
    of_parameters = np.sqrt((values(run, "parameter_gradient") ** 2).sum(-1))
    np.testing.assert_allclose(of_parameters, values(run), rtol=EXACT)


# ---- several models, and what is made of them ---------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    shorter = json_lines(folder / "post.jsonl", rows()[:2] + [{"step": 20, **norms(torch_names(40), "grad_norm/")}])
    return gf.logged({"pre": wandb(folder), "post": shorter})


def test_models_are_beside_each_other_over_all_steps(two):
    assert list(two.children) == ["pre", "post"]
    assert two["step"].values.tolist() == [0, 10, 20, 40]
    np.testing.assert_allclose(values(two, model="pre")[[0, 1, 3]], LAYERS, rtol=EXACT)
    assert np.isnan(values(two, model="pre")[2]).all()
    assert np.isnan(values(two, model="post")[3]).all()
    assert source(two, "post")["file"] == "post.jsonl"


def test_a_row_of_numbers_is_no_mapping_of_models():
    assert list(gf.logged({"grad_norm/h.0.w": "NaN"}).children) == ["model"]
    models = {name: {"grad_norm/h.0.w": 1.0} for name in ("a", "b")}
    assert list(gf.logged(models).children) == ["a", "b"]


def test_a_saved_record_is_loaded_as_it_was(two, tmp_path):
    back = gf.results.load(gf.results.save(two, tmp_path / "log.nc"))
    assert back.equals(two)
    assert source(back, "pre") == source(two, "pre")


def test_figures_compare_the_models(two):
    drawn = gf.plot.profile(two, "layer_gradient", steps=(0, 10))
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == [
        "pre, step 0", "pre, step 10", "post, step 0", "post, step 10"]  # fmt: skip
    assert drawn.get_xlabel() == "layer (input → output)"
    for words in ("history.jsonl, 38 columns", "not finite, or not logged: pre at 1 of 4 steps; post at 1 of 4 steps"):
        assert words in drawn.get_label()
    assert "float64" not in drawn.get_label()
    gf.plot.profile(two, "parameter_gradient", parameter="mlp.up_proj.weight")
    heat = gf.plot.heatmap(two["post"], "layer_gradient", relative_to=None)
    assert heat.get_xlabel() == "layer (input → output)"
    assert "pre" not in heat.get_label().split("record: ")[1]


def test_a_record_of_many_steps_names_some_of_them_in_a_figure():
    run = gf.logged([{"step": step, "grad_norm/h.0.w": 1.0 + step, "grad_norm/h.1.w": 1.0} for step in range(200)])
    drawn = gf.plot.profile(run, "layer_gradient")
    assert len([line for line in drawn.get_lines() if len(line.get_xdata())]) == 200
    named = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert (len(named), named[0], named[-1]) == (6, "model, step 0", "model, step 199")
    assert len(gf.plot.heatmap(run["model"], "layer_gradient", relative_to=None).get_yticks()) == 12


@pytest.mark.parametrize("value", ["NaN", 0.0, 2.0])
def test_a_report_is_written_of_a_record_of_one_value(value, tmp_path):
    run = gf.logged({"a/b": [{"step": step, "grad_norm/h.0.w": value, "grad_norm/h.1.w": value} for step in (3, 4)]})
    out = gf.report.write(run, tmp_path / "out")
    ratio = "1.0 times" if value == 2.0 else "not finite"
    assert f"a/b: the gradient of the first layer is, relative to the last, {ratio} at step" in (
        out / "tables" / "summary.txt"
    ).read_text(encoding="utf-8")


def test_a_report_is_written_of_a_record(two, tmp_path):
    out = gf.report.write(two, tmp_path / "out")
    for name in ("results.nc", "appendix.tex", "tables/summary.txt", "tables/laws.csv", "figures/heatmap_post.pdf"):
        assert (out / name).exists(), name
    table = pd.read_csv(out / "tables" / "results.csv")
    ratios = table[table["quantity"] == "first / last"]
    assert ratios[["model", "step"]].values.tolist() == [[name, s] for name in ("pre", "post") for s in (0, 10, 20, 40)]
    told = (out / "tables" / "summary.txt").read_text(encoding="utf-8")
    assert "post: the gradient of the first layer is, relative to the last" in told
    assert "total train/grad_norm: within" in told
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["configuration"]["models"]["pre"]["file"] == "history.jsonl"
    assert manifest["configuration"]["models"]["pre"]["sha256"] in (out / "body.tex").read_text(encoding="utf-8").replace(
        r"\allowbreak{}", "")  # fmt: skip
    assert gf.report.verify(out).in_order
    with pytest.raises(ValueError, match="no sweep and no theory: leave"):
        gf.report.write(two, tmp_path / "other", theory=two)
