"""The licences of what a bundle has in it and stands on: its results, the text, the weights, and gradflow."""

from typing import Any, NamedTuple

from ...results.tree import mapping_of, settings
from .contents import Contents

AUTHOR = "to be stated by the author"
PYTHON = "PSF-2.0"
OWN = "Apache-2.0"
SPDX = "https://spdx.org/licenses/"


class Licence(NamedTuple):
    """What it is of; its name, an identifier of SPDX where there is one, or that the author states it; and a remark."""

    of: str
    name: str
    remark: str = ""

    def __str__(self) -> str:
        line = f"{self.of}: {self.name}"
        if self.remark:
            line += f" ({self.remark})"
        return line


def licences(contents: Contents) -> dict[str, Licence]:
    """Returns the licences of `results`, `text`, `weights` and `gradflow`, of the second and third where there are any."""
    found = {"results": Licence("results, figures, tables and text of this bundle", AUTHOR)}
    name = contents.data.get("name")
    if contents.has_its_text:
        found["text"] = Licence(f"text `{name}`", PYTHON, "Python Software Foundation License 2.0: CPython's own text")
    elif name:
        found["text"] = Licence(f"text `{name}`", AUTHOR, "it is known here by its SHA-256 alone")
    if settings(contents.run).get("weights") == "given":
        found["weights"] = _of_weights(contents)
    found["gradflow"] = Licence("gradflow", OWN)
    return found


def _of_weights(contents: Contents) -> Licence:
    """Returns the licence of trained weights, as the folder that they were in states it."""
    stated = mapping_of(contents.run, "checkpoint").get("weights_licence") or {}
    if not stated:
        return Licence("weights", AUTHOR, "they are known here by their SHA-256 alone")
    return Licence("weights", str(stated["name"]), f"as {stated['file']} beside them says")


def manifest(contents: Contents) -> dict[str, Any]:
    """Returns the entries of the manifest but for the files: those of the record, and the licences."""
    names = {what: licence.name for what, licence in licences(contents).items()}
    return {**contents.record.manifest(), "licences": names}
