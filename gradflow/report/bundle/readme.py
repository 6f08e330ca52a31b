"""`README.md` and `environment.lock`: what a bundle is, how it is verified, and what that takes."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from textwrap import shorten
from typing import Any

from ...results.tolerance import EARLY, ESTIMATED, LATE, MEETING, START
from ..paper import hyperparameters
from ..text import captions
from .contents import Contents
from .licences import licences

SHOWN = 80  # characters of what a figure shows
LEVELS = (
    ("0", "every file is there, none is extra, and each has the SHA-256 that `manifest.json` lists", "seconds"),
    ("1", "tables, figure data, macros and LaTeX are made again from `results.nc` and compared", "seconds"),
    ("2", "step 0 and the first steps of each model are computed again", "a minute or two a model"),
    ("3", "everything is computed again", "as long as the run"),
)
EXIT_CODES = (
    "The exit code is 0 if all is in order, 3 if something is wrong, and 4 if nothing is wrong but levels 2 or 3 could not "
    "compute all of it again; each part that they could not is a line that says why."
)


def document(contents: Contents, sections: Mapping[str, Mapping[str, str]], files: Mapping[str, str]) -> str:
    """Returns the page; `sections` are those of `hyperparameters`, `files` says what each file is."""
    record = contents.record
    cost = "; ".join(f"{name}: {value}" for name, value in sections.get("Cost", {}).items()) or "not recorded"
    machine = "; ".join(f"{name}: {value}" for name, value in sections.get("Hardware", {}).items()) or "not recorded"
    lines = [
        "# Results of gradflow, with all that is needed to check them",
        "",
        _what(contents),
        "",
        f"Made by `{_command(contents)}`, finished {record.finished}.",
        "",
        "## Verify",
        "",
        "```",
        f"pip install gradflow-jax=={record.provenance.get('gradflow', '')}  # all versions: pip install -r environment.lock",
        "gradflow verify . --level 1",
        "```",
        "",
        "| level | what is checked | takes |",
        "|---|---|---|",
        *(f"| {level} | {what} | {takes} |" for level, what, takes in LEVELS),
        "",
        EXIT_CODES,
        *_read(contents),
        "",
        f"The run itself took: {cost}. The machine: {machine}.",
        "",
        _tolerances(),
        "",
        "## Use in a paper",
        "",
        "```latex",
        "\\usepackage{amsmath,amssymb,array,booktabs,graphicx,siunitx,tabularx}",
        "\\newcommand{\\gradflowpath}{gradflow-bundle}  % this folder, seen from the paper's",
        "\\input{\\gradflowpath/body}  % or numbers, in the preamble, for the macros alone",
        "```",
        "",
        "`pdflatex appendix`, `bibtex appendix` and `pdflatex appendix` twice make the appendix by itself; what they leave",
        "here is no part of the bundle.",
        "",
        "## Files",
        "",
        *_files(files),
        "",
        "## Licences",
        "",
        *(f"- {licence}" for licence in licences(contents).values()),
        "",
    ]
    return "\n".join(lines)


def _what(contents: Contents) -> str:
    """Returns one paragraph: the conditions of the measurement."""
    conditions = captions.setting(contents.run) or {"measured": "gradients through stacks of residual sublayers"}
    return captions.sentence(conditions)


def _read(contents: Contents) -> list[str]:
    """Returns a line each on the text and the weights that levels 2 and 3 read and that are not in this folder."""
    configuration, data, lines = contents.record.configuration, contents.data, []
    if configuration.get("tokens"):
        lines.append(f"Levels 2 and 3 read the tokens `{_last(configuration['tokens'])}`: `--text FILE`.")
    elif "sha256" in data and not contents.has_its_text:
        lines.append(f"Levels 2 and 3 read the text `{data.get('name')}`, SHA-256 {data['sha256']}: `--text FILE`.")
    if contents.weights_sha256:
        folder = _last(configuration.get("folder", "of the model"))
        lines.append(f"They read the weights in the folder `{folder}`, whose SHA-256 are recorded: `--weights FOLDER`.")
    return lines


def _last(path: Any) -> str:
    """Returns the last part of a path."""
    return PurePath(str(path).replace("\\", "/")).name


def _files(files: Mapping[str, str]) -> Iterator[str]:
    """Yields a line for every file; a figure's files share one."""
    for name, what in files.items():
        if not name.startswith("figures/"):
            yield f"- `{name}`: {what}"
        elif name.endswith(".pdf"):
            yield f"- `{name}`, `.png`, `.csv`: {shorten(what, SHOWN, placeholder=' …')}"


def _command(contents: Contents) -> str:
    command = " ".join(str(contents.record.provenance.get("command", "")).split())
    return command.replace("`", "'") or "a Python session"


def _tolerances() -> str:
    """Returns the paragraph on what counts as the same number."""
    return (
        "In the same environment (versions, processor) numbers have the same bits. Elsewhere a number computed again may "
        f"differ by {START} at step 0, by {EARLY} after one or two updates, and by {ESTIMATED} where it is an estimate; "
        f"after more than {LATE} updates the 95% intervals over seeds have to meet at {MEETING:.0%} of a quantity's places."
    )


def lock(contents: Contents) -> str:
    """Returns `environment.lock`: the Python, and every distribution with its version, as pip reads it."""
    record = contents.record
    python = record.provenance.get("versions", {}).get("python", "unknown")
    header = [f"# python {python}", "# every installed distribution: pip install -r environment.lock"]
    return "\n".join([*header, *record.environment]) + "\n"


def rows(contents: Contents) -> dict[str, hyperparameters.Rows]:
    """Returns the resolved values of the run by section, as `hyperparameters.sections` does."""
    environment = {"unfinished": len(contents.record.begun)}
    trees = dict(contents.trees)
    if contents.record.kind == "atlas":
        trees = {"training": contents.run}
    return hyperparameters.sections(trees, contents.record.provenance, environment)
