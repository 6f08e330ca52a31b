"""Checkpoints of a run: weights, optimizer, records so far and the next step, whole on disk or not there (orbax).

A folder holds one run: `configuration.json`, and for each model the latest checkpoint. Data and dropout depend on key and
step alone, so nothing else has to be kept: a run that was killed and resumed ends with the bits of one that was not.

Each checkpoint says itself whose it is, model and configuration, with a SHA-256 of its arrays; no other run reads it.
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
CLOSED, LATE = (
    "Event loop is closed",
    0.3,
)  # what reads that orbax has given up say of it, and the seconds they have to say it
BY_MODEL = ("models", "programs")  # the parts of a configuration that have an entry for each model


class Checkpoints:
    """The checkpoints of one run below `folder`, one model's each in a folder of its own."""

    def __init__(self, folder: str | Path, configuration: Mapping, every: int | None = None):
        """`configuration`: what decides the run's numbers; `every`: steps between checkpoints. Nothing is written yet."""
        self.folder, self.every, self.saved = as_path(folder).resolve(), every, time.monotonic()
        self.configuration = json.loads(json.dumps(encode(configuration)))

    @classmethod
    @contextmanager
    def opened(
        cls, folder, configuration: Mapping, every: int | None = None, *, resume: bool
    ) -> Iterator["Checkpoints"]:
        """Opens the folder for this process alone: a new run, or with `resume` one of the same configuration.

        Errors: FileExistsError where the folder holds a run that is not asked to be resumed, or one of another configuration;
        BlockingIOError where another process is at it; OSError where it is damaged, or can't be written.
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
        """The run in the folder is the one that is asked for, or there is none and the folder says from now on whose it is."""
        path, known = self.folder / CONFIGURATION, None
        if path.exists() or path.is_symlink():
            known = read_json(path, "delete it, and each checkpoint says itself whose it is")
        for model in self.configuration.get("models", {}):
            if os.path.lexists(self._at(model)) and not self._at(model).is_dir():
                raise FileExistsError(f"{printable(self._at(model))} is no folder: delete it, or name another folder")
        models = [model for model in self.configuration.get("models", {}) if self.latest(model) is not None]
        if (models or known is not None) and not resume:
            raise FileExistsError(
                f"{printable(self.folder)} holds a run: resume it (resume=True, --resume), or name another folder for a new one"
            )
        if known is not None:
            self._refuse_other(known, self.configuration, self.folder)
        for model in models:
            self._told(model)
        if known is None:
            write_json(path, self.configuration)

    def _refuse_other(self, there, here, place: Path) -> None:
        if differ := differences(there, here):
            raise FileExistsError(
                f"{printable(place)} holds a run of another configuration: {differ}; name another folder"
            )

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
        told = {"run": self._identity(model), "step": step, "sha256": digest(tree)}
        try:
            with self._manager(model) as manager:
                manager.save(
                    step,
                    args=ocp.args.StandardSave(tree),
                    custom_metadata={"gradflow": json.dumps(told)},
                    force=True,
                )
            self.saved = time.monotonic()
        except Exception as error:  # the file system's words come in exceptions of several libraries
            self._clear(model)
            kept = self.latest(model)
            remains = "none is whole" if kept is None else f"the one of step {kept} is whole"
            raise OSError(
                f"can't write {model}'s checkpoint of step {step} to {printable(self.folder)} ({reason(error)}): {remains}; "
                f"free some space, or mend the folder, and resume"
            ) from None

    def latest(self, model: str) -> int | None:
        """The step of the latest whole checkpoint, if there is one."""
        steps = [int(path.name) for path in self._at(model).glob("*") if path.name.isdecimal()]
        return max(steps, default=None)

    def restore(self, model: str, start) -> tuple[int, Any, dict]:
        """`(next step, state, records)` of the latest checkpoint; where there is none, of a run from the state `start`.

        Errors: FileExistsError where it is another run's; OSError where it is damaged.
        """
        import orbax.checkpoint as ocp

        # As from a file: without JAX's weak types, which would be another program.
        fresh = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), start)
        step = self.latest(model)
        if step is None:
            return 0, fresh, {}
        told = self._told(model)
        try:
            with self._manager(model) as manager:
                tree = manager.restore(step, args=ocp.args.StandardRestore())
            if digest(tree) != told["sha256"]:
                raise ValueError("its arrays are not those that were written")
            leaves = [jax.device_put(tree["state"][name]) for name in sorted(tree["state"])]
            if [(a.shape, a.dtype) for a in leaves] != [(a.shape, a.dtype) for a in jax.tree.leaves(fresh)]:
                raise ValueError("its arrays are of other shapes or types")
            found = {
                name: (list(kept["steps"]), list(kept["values"])) for name, kept in tree.get("records", {}).items()
            }
        except Exception as error:
            raise self._damaged(model, step, error) from None
        return step, jax.tree.unflatten(jax.tree.structure(start), leaves), found

    def _identity(self, model: str) -> dict:
        """What decides the numbers of one model's run; other models of the run don't."""
        own = {part: self.configuration[part].get(model) for part in BY_MODEL if part in self.configuration}
        return {"model": model, **self.configuration, **own}

    def _told(self, model: str) -> dict:
        """What the latest checkpoint says of itself: this run's, or an error."""
        step = self.latest(model)
        try:
            all_regular(self._at(model))
            with self._manager(model) as manager:
                told = json.loads(manager.metadata(step).custom_metadata.get("gradflow", "{}"))
            if "run" not in told:
                raise ValueError("it does not say whose it is")
            if told["step"] != step or not isinstance(told["run"], dict) or not isinstance(told["sha256"], str):
                raise ValueError("it is not called by its step")
        except Exception as error:
            raise self._damaged(model, step, error) from None
        self._refuse_other(told["run"], self._identity(model), self._at(model) / str(step))
        return told

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
        """Takes away what was half-written: by this process, or by one that was killed, since the folder is held."""
        for path in self._at(model).glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def _manager(self, model: str) -> Iterator[Any]:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=True)
        with _quietly(), ocp.CheckpointManager(self._at(model), options=options) as manager:
            yield manager


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps off the screen what orbax says beside its exceptions: pages of tracebacks of its threads."""
    log, told = logging.getLogger("absl"), sys.unraisablehook
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda late: None if str(late.exc_value) == CLOSED else told(late)
    try:
        yield
    except Exception:
        time.sleep(LATE)
        raise
    finally:
        log.setLevel(level)
        sys.unraisablehook = told
