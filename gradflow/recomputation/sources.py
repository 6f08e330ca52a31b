"""The files that a run read, found where they are given, in the bundle, or where they were: a text, and a folder of weights.

Whatever is found is compared with the SHA-256 that was recorded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from ..interop import checkpointed
from ..interop.checkpointed import Checkpointed
from ..interop.trained import Trained, opened
from ..results import topics
from ..results.files import printable
from ..results.tree import mapping_of
from ..training import data as texts

OPTIONS = ("context", "batch", "readings", "begin", "mask", "tied", "precision")  # of a trained model's job


class Sources(NamedTuple):
    """Where files may lie: the bundle's folder, `given` files by what they are, and the configuration with their first places."""

    folder: Path
    given: Mapping[str, Path]
    configuration: Mapping[str, Any]

    def text(self, tree: xr.DataTree):
        """Returns the text that a run read, cut as it was.

        Errors: ValueError, one line, where it was no text, where it is not at hand, and where it is another one.
        """
        described = mapping_of(tree, "data")
        if "sha256" not in described:
            raise ValueError("it read a batch, which is not in the bundle")
        if "targets" in described:
            raise ValueError(f"it read tokens, {described['name']}, which are not in the bundle")
        path = self._place_of_text(str(described["name"]))
        text = texts.text(path, context=described["context"], batch=described["batch"])
        if text.sha256 != described["sha256"]:
            raise ValueError(
                f"the text here has the SHA-256 {text.sha256}, the one that was read {described['sha256']}: "
                f"give that one, --text FILE"
            )
        if "cut" in described:
            return texts.Halves(text)
        return text

    def _place_of_text(self, name: str) -> Path | None:
        """Returns where the text of that name lies; None for the one that CPython ships."""
        if "text" in self.given:
            return self.given["text"]
        if name == topics.NAME:
            own = self.folder / topics.FILE
            return own if own.is_file() else None
        before = self._place_before("text")
        if before is not None:
            return before
        raise ValueError(f"it read the text {printable(name)}, which is not in the bundle: give it, --text FILE")

    def _place_before(self, option: str) -> Path | None:
        """Returns the place that the run's configuration names, where something is there."""
        place = self.configuration.get(option)
        if isinstance(place, str) and Path(place).exists():
            return Path(place)
        return None

    def trained(self, tree: xr.DataTree) -> Trained | Checkpointed:
        """Returns the trained model that was measured, or the checkpoints of a run, with the weights and what was read.

        Errors: ValueError, one line, where the weights or what they read are not at hand, or are others.
        """
        folder = self.given.get("weights", self._place_before("folder"))
        if folder is None:
            raise ValueError(
                f"it measured the weights of {printable(str(self.configuration.get('folder')))}, which are not at hand: "
                f"give their folder, --weights FOLDER"
            )
        options: dict[str, Any] = {**self._read()}
        for name in OPTIONS:
            if name in self.configuration:
                options[name] = self.configuration[name]
        steps = self.configuration.get("checkpoints")
        if steps is None:
            trained: Trained | Checkpointed = opened(folder, **options)
        else:
            trained = checkpointed.opened([Path(folder) / below for below in steps], list(steps.values()), **options)
        recorded = mapping_of(tree, "checkpoint")
        for what in ("weights_sha256", "config_sha256", "tokens_sha256"):
            if trained.sources[what] != recorded.get(what):
                raise ValueError(f"the {what} of {printable(folder)}, with what it reads here, is not the recorded one")
        return trained

    def _read(self) -> dict[str, Path | None]:
        """Returns the text, or the tokens, that a trained model read."""
        kind = "tokens" if self.configuration.get("tokens") else "text"
        recorded = self.configuration.get(kind)
        place = self.given.get("text", self._place_before(kind))
        if recorded and place is None:
            raise ValueError(f"it read {printable(str(recorded))}, which is not at hand: give it, --text FILE")
        return {"text": None, "tokens": None, kind: place}
