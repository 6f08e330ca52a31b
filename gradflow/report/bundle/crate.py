"""`ro-crate-metadata.json`: the bundle as an RO-Crate 1.3 with the profile Process Run Crate 0.5, for archives and machines.

The run is a `CreateAction` whose instrument is gradflow, whose object is the text it read, and whose result are the files.
"""

import json
from collections.abc import Mapping
from typing import Any

from .contents import Contents
from .licences import OWN, PYTHON, SPDX, Licence, licences

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
        *_licences(contents),
    ]
    graph.append({"@id": PROFILE, "@type": ["CreativeWork", "Profile"], "name": "Process Run Crate", "version": "0.5"})
    for name, what in files.items():
        graph.append(_file(name, what))
    graph += _read(contents)
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
        "license": _reference("#licence-of-results"),
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
    read = [_reference(entity["@id"]) for entity in _read(contents)]
    if read:
        action["object"] = read if len(read) > 1 else read[0]
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
        "license": _reference(_licence("gradflow", licences(contents)["gradflow"])),
    }


def _author() -> dict[str, Any]:
    return {"@id": "#author", "@type": "Person", "name": "to be filled in by the author"}


def _licences(contents: Contents) -> list[dict[str, Any]]:
    """Returns the entities of the licences: of SPDX by their address there, of others by what they are of."""
    entities = {}
    for what, licence in licences(contents).items():
        entity = {"@id": _licence(what, licence), "@type": "CreativeWork", "name": licence.name}
        entities[entity["@id"]] = {**entity, "description": f"the licence of: {licence.of}"}
    return list(entities.values())


def _licence(what: str, licence: Licence) -> str:
    """Returns the identifier of a licence."""
    if licence.name in (PYTHON, OWN):
        return f"{SPDX}{licence.name}"
    return f"#licence-of-{what}"


def _file(name: str, what: str) -> dict[str, Any]:
    """Returns the entity of one file."""
    entity = {"@id": _path(name), "@type": "File", "name": name, "description": what}
    for ending, media in FORMATS.items():
        if name.endswith(ending):
            entity["encodingFormat"] = media
    return entity


def _read(contents: Contents) -> list[dict[str, Any]]:
    """Returns the entities of what was read, a text and trained weights: each is known by its SHA-256, and has its licence."""
    entities = []
    data, stated = contents.data, licences(contents)
    if "sha256" in data:
        text = {"@id": "#text", "@type": "CreativeWork", "name": str(data.get("name", "text"))}
        text["description"] = f"the text that was read; SHA-256 {data['sha256']}"
        entities.append({**text, "license": _reference(_licence("text", stated["text"]))})
    if contents.weights_sha256:
        files = ", ".join(f"{name} {digest}" for name, digest in contents.weights_sha256.items())
        weights = {"@id": "#weights", "@type": "CreativeWork", "name": "trained weights"}
        weights["description"] = f"the weights that were measured; SHA-256 {files}"
        entities.append({**weights, "license": _reference(_licence("weights", stated["weights"]))})
    return entities


def _path(name: str) -> str:
    """Returns a file's path as a part of a URI."""
    return name.replace("%", "%25").replace(" ", "%20")
