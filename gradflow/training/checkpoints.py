"""Checkpoints of a run: weights, optimizer, records so far and the next step, whole on disk or not there (orbax).

A folder holds one run: `configuration.json`, and for each model the latest checkpoint. Data and dropout depend on key and
step alone, so nothing else has to be kept: a run that was killed and resumed ends with the bits of one that was not.

Each checkpoint names its own model and configuration, with a SHA-256 of its arrays; no other run reads it.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..results.configuration import differences, encode
from ..results.digest import digest
from ..results.files import all_regular, as_path, printable, read_json, reason, unwritten, write_json
from ..results.folder import CONFIGURATION
from ..results.locks import held
from ..results.naming import stem

SECONDS = 30.0  # between checkpoints, unless told otherwise
CLOSED = "Event loop is closed"  # the message of reads that orbax has given up
LATE = 0.3  # seconds in which such messages arrive
BY_MODEL = ("models", "programs", "losses")  # the parts of a configuration that have an entry for each model


class Checkpoints:
    """The checkpoints of one run below `folder`, with a folder for each model."""

    def __init__(self, folder: str | Path, configuration: Mapping, every: int | None = None):
        """Writes nothing yet; `configuration` decides the run's numbers, `every` are the steps between checkpoints."""
        self.folder = as_path(folder).resolve()
        self.every = every
        self.saved = time.monotonic()
        self.configuration = json.loads(json.dumps(encode(configuration)))

    @classmethod
    @contextmanager
    def opened(
        cls, folder, configuration: Mapping, every: int | None = None, *, resume: bool
    ) -> Iterator["Checkpoints"]:
        """Opens the folder for this process alone: a new run, or with `resume` one of the same configuration.

        Errors: FileExistsError where the folder holds a run that is not asked to be resumed, or one of another configuration;
        BlockingIOError where another process writes to it; OSError where it is damaged, or can't be written.
        """
        keeper = cls(folder, configuration, every)
        try:
            keeper.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise unwritten(folder, error) from None
        with held(keeper.folder):
            keeper._begin(resume)
            yield keeper

    def _begin(self, resume: bool) -> None:
        """Checks that the folder holds this run, or none, and writes the configuration where there is none."""
        path = self.folder / CONFIGURATION
        earlier = None
        if path.exists() or path.is_symlink():
            earlier = read_json(path, "delete it, and each checkpoint says itself whose it is")
        with_checkpoints = []
        for model in self.configuration.get("models", {}):
            place = self._at(model)
            if os.path.lexists(place) and not place.is_dir():
                raise FileExistsError(f"{printable(place)} is no folder: delete it, or name another folder")
            if self.latest(model) is not None:
                with_checkpoints.append(model)
        if (with_checkpoints or earlier is not None) and not resume:
            raise FileExistsError(
                f"{printable(self.folder)} holds a run: resume it (resume=True, --resume), or name another folder for a new one"
            )
        if earlier is not None:
            _refuse_other(earlier, self.configuration, self.folder)
        for model in with_checkpoints:
            self._metadata(model)
        if earlier is None:
            write_json(path, self.configuration)

    def due(self, step: int, steps: int) -> bool:
        """Returns whether a checkpoint follows that step of a run; one always follows the last."""
        if step == steps:
            return True
        if self.every is None:
            return time.monotonic() - self.saved > SECONDS
        return (step + 1) % self.every == 0

    def save(self, model: str, step: int, state, records: Mapping[str, tuple]) -> None:
        """Writes a checkpoint of all before `step`; the earlier one is deleted once this one is whole.

        Errors: OSError, with the step of the last whole checkpoint.
        """
        import orbax.checkpoint as ocp

        leaves = {f"{i:04d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        columns = {}
        for name, (steps, values) in records.items():
            columns[name] = {"steps": np.asarray(steps), "values": np.stack(values)}
        tree = {"state": leaves, "records": columns}
        metadata = {"run": self._identity(model), "step": step, "sha256": digest(tree)}
        try:
            with self._manager(model) as manager:
                manager.save(
                    step,
                    args=ocp.args.StandardSave(tree),
                    custom_metadata={"gradflow": json.dumps(metadata)},
                    force=True,
                )
            self.saved = time.monotonic()
        except Exception as error:  # several libraries raise for the file system's errors
            self._clear(model)
            remains = "none is whole"
            if self.latest(model) is not None:
                remains = f"the one of step {self.latest(model)} is whole"
            raise OSError(
                f"can't write {model}'s checkpoint of step {step} to {printable(self.folder)} ({reason(error)}): {remains}; "
                f"free some space, or mend the folder, and resume"
            ) from None

    def latest(self, model: str) -> int | None:
        """Returns the step of the latest whole checkpoint, or None."""
        steps = [int(path.name) for path in self._at(model).glob("*") if path.name.isdecimal()]
        return max(steps, default=None)

    def restore(self, model: str, start) -> tuple[int, Any, dict]:
        """Returns `(next step, state, records)` of the latest checkpoint; where there is none, of a run from the state `start`.

        Errors: FileExistsError where it is that of another run; OSError where it is damaged.
        """
        import orbax.checkpoint as ocp

        # As from a file: without JAX's weak types, which would be another program.
        fresh = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), start)
        step = self.latest(model)
        if step is None:
            return 0, fresh, {}
        metadata = self._metadata(model)
        try:
            with self._manager(model) as manager:
                tree = manager.restore(step, args=ocp.args.StandardRestore())
            if digest(tree) != metadata["sha256"]:
                raise ValueError("its arrays are not those that were written")
            leaves = [jax.device_put(tree["state"][name]) for name in sorted(tree["state"])]
            if _shapes(leaves) != _shapes(jax.tree.leaves(fresh)):
                raise ValueError("its arrays are of other shapes or types")
            records = {}
            for name, columns in tree.get("records", {}).items():
                records[name] = list(columns["steps"]), list(columns["values"])
        except Exception as error:
            raise self._damaged(model, step, error) from None
        return step, jax.tree.unflatten(jax.tree.structure(start), leaves), records

    def _identity(self, model: str) -> dict:
        """Returns all that decides the numbers of one model's run, without the other models."""
        identity = {"model": model, **self.configuration}
        for part in BY_MODEL:
            if part in self.configuration:
                identity[part] = self.configuration[part].get(model)
        return identity

    def _metadata(self, model: str) -> dict:
        """Returns the metadata of the latest checkpoint, which is of this run; else an error."""
        step = self.latest(model)
        try:
            all_regular(self._at(model))
            with self._manager(model) as manager:
                metadata = json.loads(manager.metadata(step).custom_metadata.get("gradflow", "{}"))
            if "run" not in metadata:
                raise ValueError("it does not say whose it is")
            has_types = isinstance(metadata["run"], dict) and isinstance(metadata["sha256"], str)
            if metadata["step"] != step or not has_types:
                raise ValueError("it is not called by its step")
        except Exception as error:
            raise self._damaged(model, step, error) from None
        _refuse_other(metadata["run"], self._identity(model), self._at(model) / str(step))
        return metadata

    def _damaged(self, model: str, step, error: Exception) -> OSError:
        return OSError(
            f"{printable(self._at(model) / str(step))} is damaged, or no checkpoint of ours ({reason(error)}): delete it, "
            f"and {model} goes on from the one before, or from its start"
        )

    def _at(self, model: str) -> Path:
        if stem(model) == CONFIGURATION:
            raise ValueError(f"a model can't be called {model!r}: its folder would be the run's {CONFIGURATION}")
        return self.folder / stem(model)

    def _clear(self, model: str) -> None:
        """Deletes half-written files: of this process, or of a killed one, since this process holds the folder."""
        for path in self._at(model).glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _manager(self, model: str) -> Iterator[Any]:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=True)
        with _quietly(), ocp.CheckpointManager(self._at(model), options=options) as manager:
            yield manager


def _refuse_other(earlier, configuration, place: Path) -> None:
    """Raises where a checkpoint or folder is of another configuration."""
    difference = differences(earlier, configuration)
    if difference:
        raise FileExistsError(
            f"{printable(place)} holds a run of another configuration: {difference}; name another folder"
        )


def _shapes(leaves) -> list[tuple]:
    return [(leaf.shape, leaf.dtype) for leaf in leaves]


@contextmanager
def _quietly() -> Iterator[None]:
    """Suppresses orbax's output beside its exceptions: pages of tracebacks of its threads."""
    log = logging.getLogger("absl")
    level = log.level
    hook = sys.unraisablehook

    def without_late_reads(unraisable):
        if str(unraisable.exc_value) != CLOSED:
            hook(unraisable)

    log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = without_late_reads
    try:
        yield
    except Exception:
        time.sleep(LATE)
        raise
    finally:
        log.setLevel(level)
        sys.unraisablehook = hook
