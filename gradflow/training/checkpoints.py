"""Checkpoints of a run: weights, optimizer, records so far and the next step, whole on disk or not there (orbax).

A folder holds one run: `configuration.json`, and for each model the latest checkpoint. Data and dropout depend on key and
step alone, so nothing else has to be kept: a run that was killed and resumed ends with the bits of one that was not.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..results.configuration import differences, encode

CONFIGURATION = "configuration.json"
SECONDS = 30.0  # between checkpoints, unless told otherwise


class Checkpoints:
    """The checkpoints of one run below `folder`, one model's each in a folder of its own."""

    def __init__(self, folder: str | Path, configuration: Mapping, every: int | None = None, *, resume: bool = False):
        """Opens the folder: a new run, or with `resume` one of the same configuration. `every`: steps between checkpoints.

        Errors: FileExistsError where the folder holds a run that is not asked to be resumed, or one of another
        configuration; OSError where it can't be written.
        """
        self.folder, self.every, self.saved = Path(folder).resolve(), interval(every), time.monotonic()
        path, asked = self.folder / CONFIGURATION, json.loads(json.dumps(encode(configuration)))
        if path.exists():
            _continued(path, asked, resume)
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(asked, indent=1, ensure_ascii=False), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise OSError(
                f"can't keep checkpoints in {folder} ({error.strerror}): name a folder that can be written"
            ) from None

    def due(self, step: int, steps: int) -> bool:
        """Whether a checkpoint follows that step of a run; one always follows the last."""
        elapsed = time.monotonic() - self.saved > SECONDS
        return step == steps or (elapsed if self.every is None else (step + 1) % self.every == 0)

    def save(self, model: str, step: int, state, records: Mapping[str, tuple]) -> None:
        """Writes a checkpoint of what comes before `step`; the one before it goes once this one is whole.

        Errors: OSError, with the step of the last whole checkpoint.
        """
        import orbax.checkpoint as ocp

        tree = {
            "state": {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))},
            "records": {name: {"steps": np.asarray(s), "values": np.stack(v)} for name, (s, v) in records.items()},
        }
        try:
            with self._manager(model) as manager:
                manager.save(step, args=ocp.args.StandardSave(tree), force=True)
            self.saved = time.monotonic()
        except Exception as error:  # the file system's words come in exceptions of several libraries
            kept = self.latest(model)
            remains = "none is whole" if kept is None else f"the one of step {kept} is whole"
            words = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OSError(
                f"can't write {model}'s checkpoint of step {step} to {self.folder} ({words}): {remains}; "
                f"free some space, or mend the folder, and resume"
            ) from error

    def latest(self, model: str) -> int | None:
        """The step of the latest whole checkpoint, if there is one."""
        steps = [int(path.name) for path in self._at(model).glob("*") if path.name.isdecimal()]
        return max(steps, default=None)

    def restore(self, model: str, start) -> tuple[int, Any, dict]:
        """`(next step, state, records)` of the latest checkpoint; where there is none, of a run from the state `start`."""
        import orbax.checkpoint as ocp

        step = self.latest(model)
        if step is None:
            # As from a file: without JAX's weak types, which would be another program.
            return 0, jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), start), {}
        with self._manager(model) as manager:
            tree = manager.restore(step, args=ocp.args.StandardRestore())
        leaves = [jnp.asarray(tree["state"][name]) for name in sorted(tree["state"])]
        held = {name: (list(kept["steps"]), list(kept["values"])) for name, kept in tree["records"].items()}
        return step, jax.tree.unflatten(jax.tree.structure(start), leaves), held

    def _at(self, model: str) -> Path:
        return self.folder / model.replace("/", ".")

    def _manager(self, model: str):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=True)
        return ocp.CheckpointManager(self._at(model), options=options)


def interval(every: int | None) -> int | None:
    """`every`, or an error where it is no number of steps."""
    if every is not None and every < 1:
        raise ValueError(f"checkpoint_every is {every}: at least 1 is needed")
    return every


def _continued(path: Path, asked: dict, resume: bool) -> None:
    """An error unless the run in the folder is to be resumed and is the one that is asked for."""
    if not resume:
        raise FileExistsError(
            f"{path.parent} holds a run: resume it (resume=True, --resume), or name another folder for a new one"
        )
    differ = differences(json.loads(path.read_text(encoding="utf-8")), asked)
    if differ:
        raise FileExistsError(f"{path.parent} holds a run of another configuration: {differ}; name another folder")
