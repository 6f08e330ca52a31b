"""`checklist.md`: what checklists of venues and of artifact evaluations ask, filled from the record, the rest for the author.

The items are those of the NeurIPS paper checklist, of an artifact evaluation, and of a report on compute.
"""

from collections.abc import Mapping

from ...results.tree import settings
from .. import tables
from ..tables import nonfinite
from .contents import Contents
from .licences import licences

AUTHOR = "**for the author**"
Sections = Mapping[str, Mapping[str, str]]


def document(contents: Contents, sections: Sections, files: Mapping[str, str]) -> str:
    """Returns the page; `sections` are the resolved values of the run, `files` says what each file is."""
    lines = [
        "# Checklists",
        "",
        f"What is marked {AUTHOR} can't be known from a run. Fill in a copy: of this file `gradflow verify` finds any change.",
        "",
    ]
    lines += ["## NeurIPS paper checklist", ""]
    for number, (item, answer) in enumerate(_neurips(contents, sections).items(), start=1):
        lines.append(f"{number}. {item}: {answer}")
    lines += [
        "",
        "## Artifact evaluation",
        "",
        "| claim | command | file | tolerance | minutes |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in _claims(sections, files)]
    lines += ["", "## Compute", ""]
    for title in ("Runs", "Cost", "Hardware", "Software"):
        for name, value in sections.get(title, {}).items():
            lines.append(f"- {name}: {value}")
    lines.append(f"- further compute of the project, such as failed experiments: {AUTHOR}")
    return "\n".join(lines) + "\n"


def _neurips(contents: Contents, sections: Sections) -> dict[str, str]:
    """Returns `{item: answer}` in the order of the checklist."""
    recorded = settings(contents.run)
    version = contents.record.provenance.get("gradflow", "")
    weights = "given" if recorded.get("weights") == "given" else "drawn anew"
    assets = "; ".join(str(licence) for what, licence in licences(contents).items() if what != "results")
    return {
        "Claims": AUTHOR,
        "Limitations": f"{AUTHOR}; those of the measurement are under Limits in gradflow's README",
        "Theory, assumptions and proofs": _theory(contents),
        "Experimental result reproducibility": "yes: `gradflow verify` checks this folder, and at level 3 repeats the run",
        "Open access to data and code": f"code: gradflow {version}; data: {_data(contents)}",
        "Experimental setting and details": "yes: hyperparameters.tex has every value",
        "Experiment statistical significance": _statistics(contents),
        "Experiments compute resources": _listed(sections, "Cost", "Hardware"),
        "Code of ethics": AUTHOR,
        "Broader impacts": AUTHOR,
        "Safeguards": f"no weights are released here; {AUTHOR} for those that the paper releases",
        "Licenses for existing assets": assets,
        "New assets": "results.nc, documented by README.md and by its own attributes",
        "Crowdsourcing and research with human subjects": f"none in this run; {AUTHOR} for the rest",
        "Institutional review board approvals": f"none needed for this run; {AUTHOR} for the rest",
        "Declaration of LLM usage": f"{AUTHOR}; the weights of the models measured here were {weights}",
    }


def _theory(contents: Contents) -> str:
    """Returns where a theory is, and what it assumes."""
    theory = contents.part("theory")
    if theory is None:
        return "no theory is in this bundle"
    assumed = "; ".join(settings(theory).get("theory", {}).get("assumptions", []))
    return f"the theory in this bundle assumes: {assumed}"


def _data(contents: Contents) -> str:
    """Returns the data's name and SHA-256."""
    data = contents.data
    if "sha256" not in data:
        return AUTHOR
    return f"{data.get('name', 'text')}, SHA-256 {data['sha256']}"


def _statistics(contents: Contents) -> str:
    """Returns how many seeds there are, and which intervals."""
    members = tables.nodes(contents.run)
    seeds = max((node.sizes.get("seed", 1) for node in members.values()), default=1)
    if nonfinite.alone(members):
        return "one seed of each model, so there are no intervals"
    return (
        f"yes: {seeds} seeds, 95% Student-t intervals over seeds, of the mean of the logarithm for positive quantities"
    )


def _listed(sections: Sections, *titles: str) -> str:
    """Returns the rows of sections as one line."""
    rows = []
    for title in titles:
        rows += [f"{name} {value}" for name, value in sections.get(title, {}).items()]
    return "; ".join(rows) or AUTHOR


def _claims(sections: Sections, files: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Returns the rows of the artifact evaluation: what is claimed, how it is checked, where it stands, how near, how long."""
    minutes = sections.get("Cost", {}).get("wall time", "not recorded").removesuffix(" min")
    again = "`gradflow verify . --level 3`"
    rows: list[tuple[str, ...]] = [
        ("the files are those that were written", "`gradflow verify . --level 0`", "`manifest.json`", "bytes", "< 1"),
        ("all that is printed follows from the data", "`gradflow verify . --level 1`", "`results.nc`", "text", "1"),
        ("the numbers can be computed again", again, "`results.nc`", "README.md", minutes),
    ]
    for name, what in files.items():
        if name.startswith("tables/") and name.endswith(".csv"):
            rows.append((f"{what} (the sentence: {AUTHOR})", again, f"`{name}`", "README.md", minutes))
    return rows
