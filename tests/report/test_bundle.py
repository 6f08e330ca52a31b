"""A bundle: every file follows from `results.nc`, a paper includes it, and nothing in a blind one tells whose it is."""

import filecmp
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import ClassVar

import made
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image, PngImagePlugin

import gradflow as gf
from gradflow.interop.pretrained import licence
from gradflow.report import tables
from gradflow.report.bundle import blind, opened
from gradflow.report.paper import formulas, hyperparameters, macros, references
from gradflow.report.paper.wirings_cited import OF_WIRINGS
from gradflow.results import settings
from gradflow.results.provenance import distributions, provenance

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HERE = f"{Path.cwd()}/a folder/of mine.txt"


def origin() -> dict:
    """A provenance as a run has it, with all that tells whose it is."""
    source = {"commit": COMMIT, "clean": True}
    where = {"command": f"gradflow compare --text '{HERE}' --out ../mine/out", "gradflow_source": source}
    resources = {"wall_seconds": 90.0, "cpu_seconds": 150.0, "peak_memory_bytes": 2**30}
    return {**provenance(), **where, "working_directory": source, "resources": resources}


@pytest.fixture(scope="module")
def run():
    return made.tree(steps=(0, 3), provenance=origin(), spoil=made.without(2, of="post", from_step=1))


@pytest.fixture(scope="module")
def sweep():
    return made.sweep(depths=(1, 2, 4))


@pytest.fixture(scope="module")
def folder(run, sweep, tmp_path_factory):
    configuration = {"command": "compare", "text": HERE, "clip": None}
    return gf.report.write(run, tmp_path_factory.mktemp("b") / "out", sweep=sweep, configuration=configuration)


def text(folder, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def names(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_made_again_from_its_results_has_the_same_bytes(folder, tmp_path):
    again = gf.report.again(folder, tmp_path / "again")
    assert names(again) == names(folder)
    same, different, odd = filecmp.cmpfiles(folder, again, sorted(names(folder)), shallow=False)
    assert (different, odd) == ([], [])
    assert len(same) > 30
    with pytest.raises(FileExistsError, match="is the bundle itself: name another folder"):
        gf.report.again(folder, folder)


@pytest.mark.further
def test_a_bundle_made_again_at_another_width_is_as_wide_and_says_so(folder, tmp_path):
    wide = gf.report.again(folder / "results.nc", tmp_path / "wide", width="neurips", style={"font.size": 9})
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", (wide / "figures" / "heatmap_pre.pdf").read_bytes())
    assert float(box[1]) == pytest.approx(72 * gf.plot.WIDTHS["neurips"], abs=0.5)
    record = opened(wide).record
    assert (record.width, record.style) == ("neurips", {"font.size": 9})
    assert filecmp.cmp(folder / "tables" / "results.csv", wide / "tables" / "results.csv", shallow=False)
    assert plt.rcParams["font.size"] != 9
    for options, line in (
        ({"width": "neurip"}, "did you mean 'neurips'"),
        ({"style": "no-such"}, "no style 'no-such'"),
    ):
        with pytest.raises(ValueError, match=line):
            gf.report.again(folder, tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


def test_parts_that_are_loaded_keep_their_settings(folder, run, sweep):
    kept = gf.results.load(folder / "results.nc")
    for part, tree in (("training", run), ("sweep", sweep)):
        assert settings(kept[part]).items() >= settings(tree).items()
    assert settings(kept["training/post"])["recipe"] == settings(run)["recipe"]
    xr.testing.assert_identical(opened(folder).trees["training"], run)


@pytest.mark.further
def test_a_finished_bundle_is_overwritten_on_request_alone(run, tmp_path):
    few = run.isel(step=slice(1))
    out = gf.report.write(few, tmp_path / "out")
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"holds a finished run .*--overwrite"):
        gf.report.write(few, out)
    assert (out / "manifest.json").read_bytes() == before
    gf.report.write(few, out, overwrite=True)
    assert gf.report.verify(out, level=0).in_order


# ---- numbers ------------------------------------------------------------------------------------------------


def test_tables_hold_numbers_at_full_precision(folder, run):
    frame = pd.read_csv(folder / "tables" / "results.csv")
    assert list(frame.columns) == ["model", "step", "quantity", "mean", "low", "high", "n"]
    node = run["pre"].sel(step=3)
    logs = np.log(node["stream_gradient"].isel(depth=0) / node["readout_gradient"])
    row = frame.query("model == 'pre' and step == 3 and quantity == 'bottom / readout'").iloc[0]
    assert row["mean"] == pytest.approx(float(np.exp(logs.mean())), rel=1e-12)
    half = 4.302652729911275 * logs.std(ddof=1).item() / 3**0.5  # Student's t at 95%, two degrees of freedom
    assert [row["low"], row["high"]] == pytest.approx(np.exp([logs.mean() - half, logs.mean() + half]), rel=1e-9)
    assert frame.query("model == 'post' and step == 3")["n"].max() == 2


def macros_of(folder) -> dict[str, str]:
    return dict(re.findall(r"\\providecommand\{\\(\w+)\}\{(.*)\}%\n", text(folder, "numbers.tex")))


def test_every_number_that_the_summary_prints_is_a_macro(folder):
    written = {re.sub(r"\\num(\[.*?\])?\{(.*?)\}", r"\2", value) for value in macros_of(folder).values()}
    plain = text(folder, "tables/summary.txt").replace("−", "-")
    told = "\n".join(line for line in plain.splitlines()[1:] if line.startswith(("pre: the", "post: the", "  budget")))
    numbers = re.findall(r"(?<![\w.^])[+-]?\d+\.\d+(?:e-?\d+)?", told)
    assert len(numbers) > 40
    assert set(numbers) <= written


def test_macros_have_letters_alone_and_each_its_own(folder):
    found = macros_of(folder)
    assert all(name.isalpha() for name in found)
    assert text(folder, "numbers.tex").count("providecommand") == len(found)
    frame = pd.read_csv(folder / "tables" / "results.csv")
    row = frame.query("model == 'post' and step == 0 and quantity == 'bottom / readout'").iloc[0]
    for ending, column in (("", "mean"), ("Low", "low"), ("High", "high")):
        shown = formulas.number(tables.digits(row[column]))
        assert found[f"gfPostBottomReadoutStepZero{ending}"] == shown
    clash = pd.DataFrame({"model": ["a-b", "a_b"], "total_depth": [1, 1], "mean": [1.0, 2.0], "low": np.nan})
    clash = clash.assign(high=np.nan, n=1)
    told = macros.document({"total_depth": clash})
    assert r"\gfABBlocksOne}{\num{1.0}}" in told
    assert r"\gfABBlocksOneAgain}{\num{2.0}}" in told


def test_hyperparameters_are_resolved_and_no_python(folder, run):
    told = text(folder, "hyperparameters.tex")
    for words in ("None", "True", "False", "(gain=", "{'", "nan"):
        assert words not in told
    recipe = gf.Recipe()
    for value in (f"learning rate & {recipe.lr:g}", r"$\varepsilon$ & \num{1e-8}", "wiring post & $N(x + F\\,x)$"):
        assert value in told
    tokens = 3 * made.TEXT["context"] * made.TEXT["batch"]
    assert f"tokens in training, each seed & {tokens} " in told
    rows = hyperparameters.sections({"training": run}, provenance(), {"unfinished": 2})
    assert rows["Runs"]["runs started and finished"] == "6"
    assert rows["Runs"]["of these diverged"] == "1"
    assert rows["Runs"]["attempts that were interrupted before"] == "2"
    assert rows["Cost"] == {"wall time": "1.5 min", "processor time": "2.5 min", "peak memory": "1.00 GiB"}


# ---- what else is in it -------------------------------------------------------------------------------------


def test_every_named_wiring_has_its_works():
    assert set(references.WIRINGS) == set(gf.wirings().index)
    cited = {key for keys in references.WIRINGS.values() for key in keys}
    assert cited == set(OF_WIRINGS)
    for name, keys in references.WIRINGS.items():
        source = str(gf.wirings().loc[name, "source"])
        years = set(re.findall(r"\b(?:19|20)\d\d\b", source))
        assert years & {str(OF_WIRINGS[key].year) for key in keys}, name


def test_the_bibliography_has_what_is_cited_and_no_more(folder):
    keys = re.findall(r"^@\w+\{(\w+),", text(folder, "gradflow.bib"), re.MULTILINE)
    cited = set(",".join(re.findall(r"\\cite\{(.*?)\}", text(folder, "body.tex"))).split(","))
    assert keys == sorted(cited)
    assert {"xiong2020", "vaswani2017", "kingma2015", "lecun1998", "gradflow", "jax"} <= cited
    assert "takase2023" not in cited


def test_the_lock_lists_every_distribution(folder):
    assert text(folder, "environment.lock").splitlines()[2:] == distributions()
    assert any(line.startswith("jax==") for line in distributions())


def test_the_checklist_is_filled_from_the_run(folder):
    told = text(folder, "checklist.md")
    assert len(re.findall(r"^\d+\. ", told, re.MULTILINE)) == 16
    for words in ("3 seeds, 95%", "wall time 1.5 min", made.TEXT["sha256"], "`tables/laws.csv`", "**for the author**"):
        assert words in told


def test_the_crate_lists_every_file_and_says_what_each_is(folder):
    crate = json.loads(text(folder, "ro-crate-metadata.json"))
    assert crate["@context"] == "https://w3id.org/ro/crate/1.3/context"
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(graph) == len(crate["@graph"])
    parts = {part["@id"] for part in graph["./"]["hasPart"]}
    assert parts == names(folder) - {"ro-crate-metadata.json"}
    assert parts <= set(graph)
    action = graph["#run"]
    assert graph[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
    assert graph[action["result"]["@id"]]["encodingFormat"] == "application/x-netcdf"
    assert graph["./"]["conformsTo"]["@id"] in graph
    references_made = re.findall(r'"@id": "(.*?)"', text(folder, "ro-crate-metadata.json"))
    assert set(references_made) - set(graph) == {"https://w3id.org/ro/crate/1.3"}


# What a validator would download: the terms of RO-Crate's context that a bundle uses, with their addresses there.
TYPES = ("CreateAction", "CreativeWork", "Dataset", "MediaObject", "Person", "SoftwareApplication")
TERMS = (
    *(
        "about",
        "actionStatus",
        "agent",
        "author",
        "datePublished",
        "description",
        "encodingFormat",
        "endTime",
        "hasPart",
    ),
    *(
        "instrument",
        "license",
        "mentions",
        "name",
        "object",
        "result",
        "softwareRequirements",
        "startTime",
        "url",
        "version",
    ),
)
CONTEXT = {term: f"http://schema.org/{term}" for term in (*TYPES, *TERMS)} | {
    "File": "http://schema.org/MediaObject",
    "Profile": "http://www.w3.org/ns/dx/prof/Profile",
    "conformsTo": {"@id": "http://purl.org/dc/terms/conformsTo"},
}


class Answer:
    """The answer of a web server that has the context."""

    status_code = 200
    headers: ClassVar = {"Content-Type": "application/ld+json"}
    text = json.dumps({"@context": CONTEXT})

    def json(self):
        return json.loads(self.text)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("profile", "alone"), [("ro-crate-1.3", False), ("process-run-crate-0.5", True)])
def test_the_crate_is_valid_by_its_validator(profile, alone, folder, monkeypatch):
    """Without a network. Process Run Crate 0.5 is checked by itself: it asks for RO-Crate 1.1 otherwise."""
    services = pytest.importorskip("rocrate_validator.services", reason="pip install roc-validator")
    from rocrate_validator.models import Severity
    from rocrate_validator.utils.http import HttpRequester

    monkeypatch.setattr(HttpRequester, "get", lambda self, url, **options: Answer(), raising=False)
    settings_of_it = services.ValidationSettings(
        rocrate_uri=str(folder),
        profile_identifier=profile,
        requirement_severity=Severity.REQUIRED,
        enable_profile_inheritance=not alone,
        skip_availability_check=True,
        no_cache=True,
    )
    assert [issue.message for issue in services.validate(settings_of_it).get_issues()] == []


def test_the_readme_says_how_it_is_verified_and_what_that_takes(folder):
    told = text(folder, "README.md")
    for words in ("gradflow verify . --level 1", "wall time: 1.5 min", "peak memory: 1.00 GiB", "0.001 of the number"):
        assert words in told
    listed = set(re.findall(r"^- `(.*?)`[:,]", told, re.MULTILINE))
    figures = {name for name in listed if name.startswith("figures/")}
    assert "- `figures/budget_post.pdf`, `.png`, `.csv`: Budget of post" in told
    for name in figures:
        listed |= {name.replace(".pdf", ".png"), name.replace(".pdf", ".csv")}
    assert listed == names(folder)


@pytest.mark.parametrize(
    ("files", "stated"),
    [
        ({"README.md": "---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n"}, {"name": "apache-2.0", "file": "README.md"}),
        ({"README.md": "---\nlicense: other\nlicense_name: 'gemma'\n---\n"}, {"name": "gemma", "file": "README.md"}),
        ({"README.md": "# A\nlicense: mit\n---\n", "LICENSE": "\n  MIT License\n"}, {"name": "MIT License", "file": "LICENSE"}),
        ({"LICENSE.txt": "Copyright (c) Ada\n\nBSD 3-Clause License"}, {"name": "BSD 3-Clause License", "file": "LICENSE.txt"}),
        ({"config.json": "{}"}, {}),
    ],
)  # fmt: skip
def test_the_licence_of_weights_is_the_one_that_their_folder_states(files, stated, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert licence.stated(tmp_path) == stated


@pytest.mark.further
def test_licences_of_text_and_weights_are_wherever_a_bundle_says_them(run, folder, tmp_path):
    assert json.loads(text(folder, "manifest.json"))["licences"]["text"] == "to be stated by the author"
    marked = run.isel(step=slice(1))
    marked.attrs |= {"weights": "given", "data": json.dumps({**made.TEXT, "name": "pydoc_data.topics"})}
    sources = {
        "weights_sha256": {"model.safetensors": "cd" * 32},
        "weights_licence": {"name": "gemma", "file": "README.md"},
    }
    marked.attrs["checkpoint"] = json.dumps(sources)
    for node in marked.children.values():
        node.attrs |= {name: marked.attrs[name] for name in ("weights", "data", "checkpoint")}
    out = gf.report.write(marked, tmp_path / "out", configuration={"folder": "a/model"})
    assert json.loads(text(out, "manifest.json"))["licences"] == {
        "results": "to be stated by the author",
        "text": "PSF-2.0",
        "weights": "gemma",
        "gradflow": "Apache-2.0",
    }
    for name in ("README.md", "checklist.md"):
        assert "weights: gemma (as README.md beside them says)" in text(out, name)
        assert "PSF-2.0 (Python Software Foundation License 2.0: CPython's own text)" in text(out, name)
    assert "`--weights FOLDER`" in text(out, "README.md")
    graph = {entity["@id"]: entity for entity in json.loads(text(out, "ro-crate-metadata.json"))["@graph"]}
    assert graph[graph["#weights"]["license"]["@id"]]["name"] == "gemma"
    assert graph["#text"]["license"]["@id"] == "https://spdx.org/licenses/PSF-2.0"


# ---- blind --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["at once", pytest.param("again", marks=pytest.mark.long)])
def test_a_blind_bundle_tells_nobody_whose_it_is(way, run, tmp_path, monkeypatch):
    monkeypatch.setattr(blind.getpass, "getuser", lambda: "ada.lovelace")
    marked = run.copy(deep=True)
    marked.attrs["made"] = f"by ada.lovelace on {socket.gethostname()} in /home/ada.lovelace/x.py"
    if way == "at once":
        out = gf.report.write(marked, tmp_path / "out", configuration={"text": HERE}, blind=True)
        assert opened(out).record.configuration == {"text": "of mine.txt"}
    else:
        seen = gf.report.write(marked, tmp_path / "seen")
        assert COMMIT.encode() in (seen / "manifest.json").read_bytes()
        out = gf.report.again(seen, tmp_path / "out", blind=True)
    words = [COMMIT, COMMIT[:12], "lovelace", str(Path.cwd()), "/home/", "../mine", "a folder/of", os.uname().release]
    if len(socket.gethostname()) > 4:
        words.append(socket.gethostname())
    for path in filter(Path.is_file, out.rglob("*")):
        for content in blind.insides(path):
            for word in words:
                assert word.encode() not in content, (path.name, word)
    assert gf.report.verify(out).in_order


def test_what_is_packed_in_a_file_is_looked_into(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.5, 0.5, "ada", fontfamily="monospace")
    figure.savefig(tmp_path / "x.pdf", metadata={"Creator": "lovelace"})
    assert any(b"BT" in content for content in list(blind.insides(tmp_path / "x.pdf"))[1:])
    figure.savefig(tmp_path / "x.png")
    packed = PngImagePlugin.PngInfo()
    packed.add_text("made", "by ada.lovelace", zip=True)
    Image.open(tmp_path / "x.png").save(tmp_path / "x.png", pnginfo=packed)
    assert b"lovelace" not in (tmp_path / "x.png").read_bytes()
    gf.results.save(made.tree(("pre",), by="ada.lovelace"), tmp_path / "x.nc")
    for name in ("x.pdf", "x.png", "x.nc"):
        with pytest.raises(ValueError, match=rf"{name} would tell 'lovelace', which is no blind bundle"):
            blind.check([tmp_path / name], ["lovelace"])


@pytest.mark.long
def test_what_can_not_be_left_out_of_a_blind_bundle_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(blind, "blinded_tree", lambda tree: tree)
    with pytest.raises(ValueError, match=r"results\.nc would tell '.*', which is no blind bundle: rename it"):
        gf.report.write(run, tmp_path / "out", blind=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("/home/me/x.txt", "x.txt"),
        ("see /a/b.py:3", "see b.py:3"),
        ("bottom / readout", "bottom / readout"),
        ("1/σ and a/b", "1/σ and a/b"),
        ("C:\\me\\x.txt", "x.txt"),
        ("~/x/y", "y"),
        ("d((g)/(h))", "d((g)/(h))"),
    ],
)
def test_of_a_path_its_last_part_is_left(said, left):
    assert blind.blinded(said) == left
    assert blind.blinded({"a": [said]}) == {"a": [left]}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("gradflow train --text '../my own/x y.txt' --out me/run", "gradflow train --text 'x y.txt' --out out"),
        ("gradflow train --out=run --text=a/b --lr 1e-3", "gradflow train --out=out --text=b --lr 1e-3"),
        ("a 'quotation without end", "a 'quotation without end"),
    ],
)
def test_of_a_command_the_names_of_files_are_left(said, left):
    assert blind.blinded({"command": said}) == {"command": left}


# ---- LaTeX --------------------------------------------------------------------------------------------------

PAPER = r"""\documentclass[%s]{article}
\usepackage{amsmath,amssymb,array,booktabs,graphicx,siunitx,tabularx}
\newcommand{\gradflowpath}{bundle}
\input{\gradflowpath/numbers}
\begin{document}
At the start it is \gfPostBottomReadoutStepZero{} [\gfPostBottomReadoutStepZeroLow, \gfPostBottomReadoutStepZeroHigh];
see table~\ref{tab:gf-results} and figure~\ref{fig:gf-comparison}.
\input{\gradflowpath/body}
\end{document}
"""


def compiles_latex() -> bool:
    """Whether pdflatex is here, with the packages of a bundle."""
    if shutil.which("pdflatex") is None:
        return False
    found = subprocess.run(["kpsewhich", "siunitx.sty", "tabularx.sty"], capture_output=True, text=True)
    return len(found.stdout.split()) == 2


@pytest.mark.skipif(not compiles_latex(), reason="pdflatex, or its package siunitx, is not installed")
@pytest.mark.parametrize("paper", ["appendix", "10pt", "twocolumn"])
def test_a_paper_includes_it_without_overfull_boxes(paper, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bundle")
    if paper == "appendix":
        where, name = tmp_path / "bundle", "appendix"
    else:
        where, name = tmp_path, "paper"
        (where / "paper.tex").write_text(PAPER % paper)
    for _ in range(2):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
        done = subprocess.run(command, cwd=where, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]
    log = (where / f"{name}.log").read_text("latin-1")
    assert [float(points) for points in re.findall(r"Overfull .*?\(([\d.]+)pt", log) if float(points) > 2] == []
    assert "Reference `tab:gf-results'" not in log
    assert "multiply defined" not in log


@pytest.mark.parametrize(
    ("said", "set_as"),
    [
        ("8.4e-05", r"\num{8.4e-5}"),
        ("+1.7", r"\num[retain-explicit-plus]{+1.7}"),
        ("−3", r"\num{-3}"),
        ("2.5e+02", r"\num{2.5e2}"),
        ("not finite", "not finite"),
    ],
)
def test_numbers_are_set_by_siunitx(said, set_as):
    assert formulas.number(said) == set_as


@pytest.mark.parametrize(
    ("sentence", "set_as"),
    [
        ("constant", "constant"),
        ("e^((−0.24 ± 0.12) l)", r"$e^{(-0.24 \pm 0.12)\,\ell}$"),
        ("exp((−0.3 ± 0.2) l^0.5)", r"$\exp((-0.3 \pm 0.2)\,\sqrt{\ell})$"),
        ("L^(−0.41)", "$L^{-0.41}$"),
        ("l^0", r"$\ell^{0}$"),
        ("(1 + l/3.2)^0", r"$(1 + \ell/3.2)^{0}$"),
        ("(1 + l/3.2)^(−0.5 ± 0.1)", r"$(1 + \ell/3.2)^{-0.5 \pm 0.1}$"),
        ("a (1 + l/l0)^k: not identified", r"$a\,(1\,+\,\ell/\ell_0)^k$: not identified"),
    ],
)
def test_laws_are_set_as_mathematics(sentence, set_as):
    assert formulas.law(sentence) == set_as


def test_every_equation_of_a_wiring_can_be_set():
    for equation in gf.wirings()["equation"]:
        told = formulas.equation(equation)
        assert told.isascii()
        assert told.count("$") % 2 == 0
    assert formulas.equation("N(α x + F x)") == r"$N(\alpha \,x + F\,x)$"
