"""`ro-crate-metadata.json`: the bundle as an RO-Crate 1.3 with the profile Process Run Crate 0.5, for archives and machines.

The run is a `CreateAction` whose instrument is gradflow, whose object is the text it read, and whose result are the files.
"""

import json
from collections.abc import Mapping
from typing import Any

from ...results.tree import mapping_of
from .contents import Contents

SPECIFICATION = "https://w3id.org/ro/crate/1.3"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
FORMATS = {
    ".md": "text/markdown",
    ".json": "application/json",
    ".nc": "application/x-netcdf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".tex": "application/x-tex",
    ".bib": "application/x-bibtex",
    ".html": "text/html",
    ".lock": "text/plain",
}
SOFTWARE = "#gradflow"
METADATA = "ro-crate-metadata.json"


def document(contents: Contents, files: Mapping[str, str]) -> str:
    """Returns the metadata; `files` is `{path: what it is}` of every file of the bundle but this one."""
    graph = [
        _descriptor(),
        _root(contents, files),
        _action(contents),
        _software(contents),
        _author(),
        _licence(),
    ]
    graph.append({"@id": PROFILE, "@type": ["CreativeWork", "Profile"], "name": "Process Run Crate", "version": "0.5"})
    for name, what in files.items():
        graph.append(_file(name, what))
    text = _text(contents)
    if text and text["@id"] not in files:
        graph.append(text)
    crate = {"@context": f"{SPECIFICATION}/context", "@graph": graph}
    return json.dumps(crate, indent=2, ensure_ascii=False) + "\n"


def _reference(identifier: str) -> dict[str, str]:
    return {"@id": identifier}


def _descriptor() -> dict[str, Any]:
    """Returns the entity that says what this file is."""
    return {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": _reference(SPECIFICATION),
        "about": _reference("./"),
    }


def _root(contents: Contents, files: Mapping[str, str]) -> dict[str, Any]:
    """Returns the entity of the folder."""
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": "Gradients through deep residual stacks, measured by gradflow",
        "description": "Results, figures, tables and LaTeX of a run, with all that is needed to check and to repeat it.",
        "datePublished": contents.record.finished,
        "license": _reference("#licence"),
        "author": _reference("#author"),
        "conformsTo": _reference(PROFILE),
        "mentions": _reference("#run"),
        "hasPart": [_reference(_path(name)) for name in files],
    }


def _action(contents: Contents) -> dict[str, Any]:
    """Returns the entity of the run."""
    record = contents.record
    action: dict[str, Any] = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": "The run that made these results",
        "description": " ".join(str(record.provenance.get("command", "")).split()) or "a Python session",
        "instrument": _reference(SOFTWARE),
        "agent": _reference("#author"),
        "endTime": record.finished,
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "result": _reference("results.nc"),
    }
    if record.provenance.get("time"):
        action["startTime"] = record.provenance["time"]
    text = _text(contents)
    if text:
        action["object"] = _reference(text["@id"])
    return action


def _software(contents: Contents) -> dict[str, Any]:
    """Returns the entity of gradflow, with the versions of what it stands on."""
    provenance = contents.record.provenance
    versions = [f"{name} {version}" for name, version in provenance.get("versions", {}).items()]
    return {
        "@id": SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "gradflow",
        "url": _reference("README.md"),
        "version": str(provenance.get("gradflow", "unknown")),
        "softwareRequirements": ", ".join(versions) or "see environment.lock",
    }


def _author() -> dict[str, Any]:
    return {"@id": "#author", "@type": "Person", "name": "to be filled in by the author"}


def _licence() -> dict[str, Any]:
    return {
        "@id": "#licence",
        "@type": "CreativeWork",
        "name": "to be chosen by the author",
        "description": "README.md lists the licences of the text and of the software.",
    }


def _file(name: str, what: str) -> dict[str, Any]:
    """Returns the entity of one file."""
    entity = {"@id": _path(name), "@type": "File", "name": name, "description": what}
    for ending, media in FORMATS.items():
        if name.endswith(ending):
            entity["encodingFormat"] = media
    return entity


def _text(contents: Contents) -> dict[str, Any] | None:
    """Returns the entity of the text that was read, which is known by its SHA-256; None where there is none."""
    data = mapping_of(contents.run, "data")
    if "sha256" not in data:
        return None
    return {
        "@id": "#text",
        "@type": "CreativeWork",
        "name": str(data.get("name", "text")),
        "description": f"the text that was read; SHA-256 {data['sha256']}",
    }


def _path(name: str) -> str:
    """Returns a file's path as a part of a URI."""
    return name.replace("%", "%25").replace(" ", "%20")
