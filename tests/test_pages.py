"""The pages: short, their links, calls and commands exist, and their numbers are those of the files they came from."""

import ast
import dataclasses
import inspect
import json
import math
import re
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import gradflow as gf
from gradflow.cli import options, registry, verification
from gradflow.model.wirings.catalogue import ALIASES
from gradflow.report.tables import numbers
from gradflow.report.tables.profiles import digits
from gradflow.results.quantities import QUANTITIES
from gradflow.results.reproduction import to_text

ROOT = Path(__file__).parent.parent
FIGURES, VALIDATION = ROOT / "notebooks" / "figures", ROOT / "tests" / "validation"
FRONT, MANUAL = "README.md", "notebooks/README.md"
COSTS, TRUST = "tests/benchmarks/README.md", "tests/validation/README.md"
PAGES = (FRONT, MANUAL, COSTS, TRUST)
over_pages = pytest.mark.parametrize("page", PAGES)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"(?<![A-Za-z\d.])[−+]?\d+(?:\.\d+)*(?:e-?\d+)?")  # those of names, as in float32, are none
TOY = {
    "context=32": "context=8",
    "batch=4": "batch=2",
    "depth=12": "depth=1",
    "width=64": "width=8",
    "heads=4": "heads=2",
    "seeds=4": "seeds=2",
    "warmup=50": "warmup=1",
    "steps=100": "steps=2",
    "(0, 10, 100)": "(0, 1, 2)",
}


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def flat(page: str) -> str:
    """The text with every run of blanks and line ends as one blank."""
    return " ".join(text(page).split())


def blocks(page: str, language: str) -> list[str]:
    """Its blocks of code in that language."""
    return [code for named, code in FENCE.findall(text(page)) if named == language]


def first_column(page: str, header: str) -> list[str]:
    """Names in backticks that open the rows of the tables with that header."""
    names, inside = [], False
    for line in text(page).splitlines():
        inside = line.startswith("|") and (inside or line.startswith(header))
        names += re.findall(r"`(\w+)`", line.split("|")[1]) if inside else []
    return names


def printed_by(notebook: str) -> str:
    """All that a notebook's cells printed."""
    cells = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    return "".join("".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


# ---- what stands on them ------------------------------------------------------------------------------------


def test_the_front_page_has_at_most_120_lines():
    assert len(text(FRONT).splitlines()) <= 120


@over_pages
def test_lines_have_at_most_120_columns(page):
    assert [line for line in text(page).splitlines() if len(line) > 120] == []


@over_pages
def test_links_lead_to_files_that_exist(page):
    links = re.findall(r"\]\(([^)#]+)\)", text(page))
    assert links
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_the_front_page_links_every_other_page_once():
    assert [text(FRONT).count(f"]({page})") for page in PAGES[1:]] == [1, 1, 1]


def test_setting_up_takes_two_commands():
    assert blocks(FRONT, "") == ["pip install -e . && gradflow compare\n", "pip install -e '.[test]' && pytest\n"]


def test_the_pages_name_every_script_and_notebook():
    for page, folder, pattern in ((COSTS, "tests/benchmarks", "*.py"), (TRUST, "tests/validation", "*.py")):
        scripts = {path.name for path in (ROOT / folder).glob(pattern)} - {"turns.py"}
        assert {name for name in scripts if f"`python {folder}/{name}" in text(page)} == scripts
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert path.name in text(FRONT)
        assert path.name in text(MANUAL)


@over_pages
def test_every_name_of_the_package_exists(page):
    for chain in sorted(set(re.findall(r"\bgf((?:\.[A-Za-z_]\w*)+)", text(page)))):
        found = gf
        for name in chain[1:].split("."):
            assert hasattr(found, name), f"gf{chain}"
            found = getattr(found, name)


@over_pages
def test_the_calls_take_the_options_they_are_given(page):
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)).startswith("gf.") and "(" not in name:
                called = eval(name, {"gf": gf})
                named = {option.arg: None for option in node.keywords if option.arg}
                inspect.signature(called).bind_partial(*[None] * len(node.args), **named)


OF_SCRIPTS = {"rooms", "toy", "before"}  # of density.py, paper.py and newcomer.py


@over_pages
def test_every_command_and_option_exists(page):
    fields = [field for group in (options.Models, options.Updates, options.Run, options.Trained)
              for field in dataclasses.fields(group)]  # fmt: skip
    known = {field.name for field in fields} | {"record", "readings", "size", "help", "no_cache"} | OF_SCRIPTS
    for command in (verification.verify, verification.report):
        known |= set(inspect.signature(command).parameters)
    quoted = re.findall(r"`([^`\n]+)`", FENCE.sub("", text(page))) + blocks(page, "")
    for code in quoted:
        assert set(re.findall(r"(?<![\w.])gradflow ([a-z]+)", code)) <= set(registry.COMMANDS)
        assert {word.replace("-", "_") for word in re.findall(r"--([a-z][a-z-]*)", code)} <= known


@pytest.mark.long
def test_the_first_session_runs_at_toy_size(tmp_path, monkeypatch, capsys):
    (code,) = blocks(FRONT, "python")
    for full, toy in TOY.items():
        assert full in code
        code = code.replace(full, toy)
    monkeypatch.chdir(tmp_path)
    with plt.rc_context():
        exec(compile(code, FRONT, "exec"), {"__name__": "__main__"})
    plt.close("all")
    assert "post: the gradient at the bottom is" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"start.png", "budget.png", "gradflow-first"}


def test_the_manual_has_names_that_exist():
    listed = first_column(MANUAL, "| quantity |")
    assert {"stream_gradient", "heldout_loss"} <= set(listed) <= set(QUANTITIES)
    assert set(first_column(MANUAL, "| wiring |")) <= set(gf.wirings().index)
    assert all(f"| `{name}` | also called `{alias}`" in text(MANUAL) for alias, name in ALIASES.items())
    assert re.search(r"All (\d+) wirings", flat(MANUAL))[1] == str(len(gf.wirings()))


def test_the_citation_is_that_of_the_package():
    (entry,) = blocks(FRONT, "bibtex")
    project = tomllib.loads(text("pyproject.toml"))["project"]
    cff = text("CITATION.cff")
    assert f"{{{{{project['authors'][0]['name']}}}}}" in entry
    assert re.search(r"version = \{(.*)\}", entry)[1] == project["version"] == re.search(r"\nversion: (.*)", cff)[1]
    assert re.search(r"title   = \{(.*)\}", entry)[1] == re.search(r'title: "(.*)"', cff)[1]
    assert re.search(r"year    = \{(.*)\}", entry)[1] == re.search(r"date-released: (\d+)", cff)[1]


# ---- the numbers --------------------------------------------------------------------------------------------


def slope(row: pd.Series) -> str:
    """An exponent with its interval, as summaries write it."""
    estimate, low, high = (digits(row[column]) for column in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]"


def steps_of(name: str) -> pd.DataFrame:
    """The results of a run as tables print them, one row a model and step."""
    rows = pd.read_csv(FIGURES / name)
    rows["text"] = [numbers.written(row) for row in rows.to_dict("records")]
    return rows.pivot(index=["model", "step"], columns="quantity", values="text")


def findings() -> list[str]:
    """What the front page says of the main job, from the tables that the job wrote."""
    fan_in, bert = steps_of("compare_steps.csv"), steps_of("compare_bert_steps.csv")
    ratio = lambda frame, model, step: frame.loc[(model, step), "bottom / readout"]
    centre = lambda frame, model, step, column: frame.loc[(model, step), column].split(" [")[0]
    assert centre(fan_in, "pre", 10, "final norm") == centre(fan_in, "pre", 100, "final norm")
    laws = pd.read_csv(FIGURES / "compare_laws.csv").query("law == 'monomial'").set_index("model")
    written = {name: slope(row) for name, row in laws.iterrows()}
    return [
        f"at the bottom is {ratio(fan_in, 'post', 0)} times that at the readout",
        f"norms contribute {centre(fan_in, 'post', 0, 'norm')} nat",
        f"contribute {centre(fan_in, 'post', 0, 'fork')}. Pre-norm: {ratio(fan_in, 'pre', 0)} times.",
        f"At step 10 the post-norm ratio is {ratio(fan_in, 'post', 10)},",
        f"at step 100 it is {ratio(fan_in, 'post', 100)}.",
        f"There the norms contribute {centre(fan_in, 'post', 100, 'norm')} nat",
        f"and the forks {centre(fan_in, 'post', 100, 'fork')},",
        f"Pre-norm: {centre(fan_in, 'pre', 10, 'bottom / readout')} and "
        f"{centre(fan_in, 'pre', 100, 'bottom / readout')};",
        f"its final norm alone contributes {centre(fan_in, 'pre', 10, 'final norm')} nat at both steps",
        f"its ratio is {ratio(bert, 'post', 10)} at step 10 and {ratio(bert, 'post', 100)} at step 100",
        f"{bert.loc[('post', 100), 'loss']} nat and pre-norm's {bert.loc[('pre', 100), 'loss']}.",
        f"The exponents are {written['pre']} and {written['post']}.",
    ]


def setting() -> list[str]:
    """What the front page says of the setting, from the caption of its figure, the table of wirings and the project."""
    caption = (FIGURES / "compare.csv").read_text(encoding="utf-8").splitlines()[0]
    said = {name: re.search(f"{words}", caption)[1] for name, words in SAID.items()}
    newest = re.findall(r"Python :: (3\.\d+)", text("pyproject.toml"))[-1]
    oldest = re.search(r'requires-python = ">=(.*)"', text("pyproject.toml"))[1]
    return [
        f"of {said['blocks']} blocks, real text, Adam at {said['rate']} without warm-up, {said['seeds']} seeds",
        f"{said['level']}% intervals over seeds",
        f"post-norm and {len(gf.wirings()) - 2} other ways",
        f"They are of Python {oldest}:",
        f"Python {oldest} to {newest}",
    ]


SAID = {
    "blocks": r"Stack: (\d+) blocks",
    "rate": r"learning rate ([\d.]+), no warm-up",
    "seeds": r"seeds: (\d+)",
    "level": r"bands: (\d+)% t-intervals",
}
RELEASES = ["jaxlib 0.10.2 and 0.11"]  # whose sums are wrong: gradflow/compiler.py


@pytest.mark.parametrize("said", [*findings(), *setting()])
def test_the_front_page_says_what_the_tables_say(said):
    assert said in flat(FRONT)


def test_every_number_of_the_front_page_has_a_table_behind_it():
    prose = FENCE.sub("", text(FRONT))
    prose = " ".join(re.sub(r"\]\([^)]*\)|`[^`]*`|\[0\d", " ", prose).split())
    for said in [*findings(), *setting(), *RELEASES]:
        assert said in prose
        prose = prose.replace(said, "…")
    rest = re.sub(r"SHA-256|Apache-2\.0|1/σ", "", prose)
    assert NUMBER.findall(rest) == []


def test_the_releases_that_sum_wrongly_are_those_that_are_refused():
    assert RELEASES[0] in " ".join(text("gradflow/compiler.py").split())


def test_all_tokens_have_become_the_same_vector():
    cosine = pd.read_csv(FIGURES / "compare.csv", comment="#").query("quantity == 'token_cosine' and model == 'post'")
    assert cosine.set_index("step").loc[100, "low"] > 0.9999


def beside(rows: pd.DataFrame, quantity: str) -> str:
    """Ratio and standard error where theory and measurement are furthest apart."""
    found = rows.dropna(subset=f"{quantity}_ratio")
    worst = found.loc[found[f"{quantity}_ratio"].map(math.log).abs().idxmax()]
    return f"{worst[f'{quantity}_ratio']:.2f} ± {worst[f'{quantity}_se']:.2f}"


@pytest.mark.parametrize(
    "names",
    [["pre"], ["post"], ["sandwich"], ["res_post"], ["deepnorm", "layerscale", "depth_scaled", "rezero"]],
    ids=", ".join,
)
def test_the_table_of_theory_is_that_of_its_file(names):
    rows = pd.read_csv(VALIDATION / "theory.csv").query("wiring in @names")
    low, high = rows["seeds"].min(), rows["seeds"].max()
    cells = [beside(rows, quantity) for quantity in ("stream_gradient", "stream_rms", "weights")]
    shown = " | ".join((", ".join(f"`{name}`" for name in names), f"{low} to {high}", *cells))
    assert f"| {shown} |" in text(TRUST)


def test_what_theory_misses_is_that_of_its_file():
    frame = pd.read_csv(VALIDATION / "theory.csv")
    none = frame.query("wiring == 'none'")
    free = none[none["feed-forward"] != "gated silu"]
    assert (
        f"| `none` | {none['seeds'].min()} | not met | {beside(free, 'stream_rms')}, gated not met | not met |"
        in text(TRUST)
    )
    post = frame.query("wiring == 'post'")
    assert f"up to {beside(post, 'query_key')} times the theory" in flat(TRUST)
    apart = 100 * post[post["feed-forward"] != "gated silu"]["1-cosine"]
    assert f"equal to within {apart.min():.1f} to {apart.max():.0f}%" in flat(TRUST)


def test_query_and_key_gradients_beside_theory_are_those_of_their_file():
    frame = pd.read_csv(VALIDATION / "scores.csv")
    extent = lambda numbers: f"{numbers.min():.2f} to {numbers.max():.2f}"
    for (wiring, width, examples, tokens), rows in frame.groupby(["wiring", "width", "examples", "tokens"]):
        ranges = [extent(rows[how]) for how in ("none", "place", "stream")]
        assert f"| `{wiring}` | {examples} × {tokens} | {width} | {' | '.join(ranges)} |" in text(TRUST)
        if examples > 1:
            assert f"width {width} with {examples * tokens} tokens" in flat(MANUAL)
            assert f"{ranges[1]} for {wiring}-norm" in flat(MANUAL)
            assert f"{ranges[2]} for {wiring}-norm" in flat(MANUAL)
    errors = frame[["none_se", "place_se", "stream_se"]].stack()
    assert f"at standard errors of {extent(errors)}:" in flat(TRUST)


REFUSED = {
    *("highway", "geonorm", "gated_residual", "frac_connections", "hybrid_norm", "hybrid_norm_star"),
    *("value_residual", "muddformer", "deep_cross_attention"),
}
GAINS = ("rezero", "laurel")  # one trained number a sublayer


def test_every_wiring_beside_its_theory_is_that_of_its_file():
    frame = pd.read_csv(VALIDATION / "wirings.csv")
    assert set(frame["wiring"]) == set(gf.wirings().index)
    met = frame[frame["refused"].isna()]
    unsure = met.query("wiring == 'none' and init == 'fan_in'")
    even = met.query("init == 'xiong'")
    rest = met.drop(unsure.index)
    page, ends = flat(TRUST), lambda column: (rest[column].min(), rest[column].max())
    low, high = ends("stream_gradient_ratio")
    first, last = ends("stream_gradient_se")
    assert f"{low:.3f} to {high:.3f} times the theory in mean square, at standard errors of" in page
    assert f"standard errors of {100 * first:.1f} to {100 * last:.1f}%" in page
    assert "the stream {:.2f} to {:.2f} times".format(*ends("stream_rms_ratio")) in page
    assert f"{met['seeds'].min():.0f} to {met['seeds'].max():.0f} seeds" in page
    assert f"{beside(unsure, 'stream_gradient')} after {unsure['seeds'].item():.0f} seeds" in page
    assert f"at {beside(even, 'stream_gradient')} (width {even['width'].item():.0f};" in page
    furthest = (met.query("wiring not in @GAINS")["weights_ratio"] - 1).abs().max()
    assert f"query and key are within {math.ceil(100 * furthest)}%" in page
    scatter = [f"{100 * met.set_index('wiring').loc[name, 'weights_se']:.0f}" for name in GAINS]
    assert f"scatter by {' and '.join(scatter)}%" in page
    assert set(frame.dropna(subset="refused")["wiring"]) == REFUSED
    assert met[met["weights_ratio"].isna()]["wiring"].tolist() == ["prores"]
    assert rest["stream_gradient_ratio"].between(0.95, 1.05).all()
    assert (rest["stream_gradient_se"] <= 0.017).all()


@pytest.mark.parametrize("rate", ["0.0003", "0.001", "0.003"])
def test_the_table_of_training_is_that_of_its_file(rate):
    frame = pd.read_csv(VALIDATION / "training.csv").query(f"experiment == 'warmup' and lr == {rate}")
    found = frame.set_index(["model", "warmup"])
    cells = [cell.strip() for cell in re.search(rf"^\| {rate} (\|.*)\|$", text(TRUST), re.MULTILINE)[1].split("|")]
    for name, bare, warmed in (("pre", cells[1], cells[2]), ("post", cells[3], cells[4])):
        assert bare == "{:.2f} [{:.2f}, {:.2f}]".format(*found.loc[(name, 0), ["mean", "low", "high"]])
        assert warmed.endswith(f": {found.loc[(name, 100), 'mean']:.2f}")
    assert (frame["seeds"] == 4).all()


def test_what_is_said_of_training_is_in_its_file():
    frame, page = pd.read_csv(VALIDATION / "training.csv"), flat(TRUST)
    assert frame["diverged"].sum() == 0
    adam = frame.query("experiment == 'adam' and model == 'post'").set_index("recipe")
    shown = {name: "{:.2f} [{:.2f}, {:.2f}]".format(*row[["mean", "low", "high"]]) for name, row in adam.iterrows()}
    assert f"{shown['tuned']} against {shown['default']}" in page
    best = frame.query("experiment == 'quality'").groupby("model")["mean"].min()
    assert f"post-norm is worse by {best['post'] - best['pre']:.2f} [" in page
    bert = frame[frame["experiment"] == "quality, BERT's weights"]
    bert = bert.loc[bert.groupby("model")["mean"].idxmin()].set_index("model")
    shown = {name: "{:.2f} [{:.2f}, {:.2f}]".format(*row[["mean", "low", "high"]]) for name, row in bert.iterrows()}
    assert f"post-norm to {shown['post']} and pre-norm to {shown['pre']}" in page
    assert f"a paired difference of {bert.loc['post', 'mean'] - bert.loc['pre', 'mean']:.2f} [" in page


PUBLISHED = pd.read_csv(VALIDATION / "published.csv")


def test_the_table_of_published_figures_is_that_of_its_file():
    assert list(dict.fromkeys(PUBLISHED["name"])) == list(gf.reproductions().index)
    for name, statements in PUBLISHED.groupby("name", sort=False):
        (verdict,), (size,) = set(statements["verdict"]), set(statements["size"])
        holding = f"{(statements['outcome'] == 'holds').sum()} of {len(statements)}"
        row = gf.reproductions().loc[name]
        assert f"| `{name}` | {row['paper']} | {size} | {holding} | {verdict} |" in text(TRUST)


def test_what_does_not_hold_is_said():
    for row in PUBLISHED[PUBLISHED["outcome"] != "holds"].to_dict("records"):
        assert f"{row['number']}: {to_text(row)}" in flat(TRUST)


def prose_of(notebook: str) -> str:
    """The text of a notebook's cells that are not code, with every run of blanks and line ends as one blank."""
    cells = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    return " ".join(" ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown").split())


def test_notebook_01_prints_the_numbers_of_the_front_page():
    steps = steps_of("compare_steps.csv")
    printed = printed_by("01_pre_vs_post.ipynb")
    for name in ("pre", "post"):
        at = [f"{steps.loc[(name, step), 'bottom / readout']} times at step {step}" for step in (0, 10, 100)]
        assert f"{name}: the gradient at the bottom is, relative to the readout, {', '.join(at)}\n" in printed
    for step in (0, 10, 100):
        norm, fork, net = steps.loc[("post", step), ["norm", "fork", "net"]]
        assert f"budget at step {step} (nat): norm {norm}, fork {fork}, net {net};" in printed
    bert = steps_of("compare_bert_steps.csv")
    from_bert = re.search(r"post +from BERT's weights.*", printed)[0]
    for step in (10, 100):
        assert f"{bert.loc[('post', step), 'bottom / readout']} at step {step}" in from_bert
    laws = pd.read_csv(FIGURES / "compare_laws.csv").query("law == 'monomial'").set_index("model")
    slopes = [f"{name} {slope(laws.loc[name])}" for name in ("pre", "post")]
    assert f"exponent in the number of blocks: {', '.join(slopes)}\n" in printed


def test_notebook_04_prints_the_collapse_of_the_front_page():
    steps = steps_of("compare_steps.csv")
    collapsed = re.search(r"\npost: .*", printed_by("04_training.ipynb"))[0]
    assert f"bottom over readout {steps.loc[('post', 0), 'bottom / readout']} at the start" in collapsed
    assert f"least at step 100: {steps.loc[('post', 100), 'bottom / readout']};" in collapsed
    norm, fork = steps.loc[("post", 100), ["norm", "fork"]]
    assert f"budget there (nat): norm {norm}, fork {fork};" in collapsed


# Of a notebook: a phrase of its text with numbers in parentheses, and where its cells printed them.
PRINTED = [
    ("05_atlas.ipynb", r"the rank correlation is ([−\d.]+)\.", r"loss after the training: (\S+),"),
    ("05_atlas.ipynb", r"the norms take (\d+) nat and the forks", r"\nkeel(?: +\S+){2} +(-\S+)"),
    ("05_atlas.ipynb", r"the forks give (\d+) of them back", r"\nkeel(?: +\S+){3} +(\S+)"),
    ("05_atlas.ipynb", r"But ResiDual, at (\S+),", r"\nresidual +-?[\d.]+ +(\S+)"),
    ("06_trained_models.ipynb", r"by e\^(\S+): the gradient", r"rxnfp, trained: .*net (\S+) \["),
    ("06_trained_models.ipynb", r"the norms take (\S+) nat", r"rxnfp, trained: .*norm (\S+) \["),
    ("06_trained_models.ipynb", r"The forks return (\S+) nat", r"rxnfp, trained: .*fork (\S+) \["),
]


@pytest.mark.parametrize(("notebook", "said", "shown"), PRINTED)
def test_a_notebook_says_what_it_printed(notebook, said, shown):
    number, printed = re.search(said, prose_of(notebook))[1], re.search(shown, printed_by(notebook))[1]
    places = len(number.partition(".")[2])
    assert abs(float(number.replace("−", "-"))) == round(abs(float(printed.replace("−", "-"))), places)


def test_what_norms_cost_is_said_alike_in_notebook_05_and_on_the_page_of_costs():
    told = prose_of("05_atlas.ipynb")
    for way in ("forward", "with the backward pass"):
        pre, post = re.search(rf"^\| {way} \| (\d.*) \| (\d.*) \|$", text(COSTS), re.MULTILINE).groups()
        assert f"{way} {pre} under pre-norm and {post} under post-norm" in told


def test_the_trained_bert_attenuates_as_notebook_06_printed():
    printed = printed_by("06_trained_models.ipynb")
    net = float(re.search(r"rxnfp, trained: .*net (−[\d.]+) \[", printed)[1].replace("−", "-"))
    blocks = re.search(r"rxnfp: post-norm, (\d+) blocks", printed)[1]
    assert f"post-norm BERT of {blocks} blocks the gradient at the bottom is {math.exp(net):.2f} of that" in flat(
        MANUAL
    )
