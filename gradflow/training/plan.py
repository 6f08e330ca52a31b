"""Plans: the data, recipe, keys, steps and readings that all models of a run share; impossible ones are refused here."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ..instruments.backward import gradients
from ..instruments.backward.updates import UPDATES, OfUpdate
from ..instruments.meters.dropout import check_drops
from ..instruments.readings import READINGS, name_of, own_name
from ..instruments.readings import readings as chosen_readings
from ..instruments.seeds import seed_keys
from ..model.inputs import size
from ..model.inputs.batch import checked, checked_data
from ..model.inputs.weights import shapes
from ..model.numerics import devices
from ..model.numerics.threads import at_a_time
from ..model.parameters.names import coordinates
from ..programs import program as programs
from ..programs.program import Program
from ..results.arguments import known, shown
from ..results.configuration import encode
from .data import Text
from .optimizers import Muon, digest_of, program
from .recipe import Recipe
from .record_schedule import At, Schedule, steps_of
from .step import INLINE, Step, StepOfProgram

# Readings, from the least that training's own backward pass yields to all of them.
PRESETS: dict[str, tuple] = {
    "economy": ("economy",),
    "standard": ("backward", "update"),
    "full": ("backward", "update", "change", "parameter_gradient_per_example", "partial_jacobian", "spectrum"),
}
# What is read of a program in the places of models' readings.
OF_PROGRAMS: dict[Any, Any] = {
    gradients.economy: gradients.economy,
    gradients.reading: gradients.reading,
    gradients.heldout_loss: programs.heldout_loss,
    UPDATES["update"]: OfUpdate(programs.update_sizes),
}
TRAINED = 6  # arrays of the size of the weights: weights, two moments, before the update and after it


@dataclass(frozen=True)
class Plan:
    """A run before it starts: data, recipe, one key a seed, steps, the recorded steps (`kept`), and the readings.

    `inline` is part of training's own backward pass; `separate` ones take passes of their own, at the steps of each `At`.
    """

    data: Any
    recipe: Recipe
    keys: Any = field(repr=False)
    steps: int
    kept: tuple[int, ...]
    inline: Callable
    separate: tuple[At, ...]
    mesh: Mesh | None = None

    @classmethod
    def of(
        cls,
        data,
        recipe: Recipe,
        key,
        seeds: int,
        steps: int,
        record: Schedule | None,
        readings,
        mesh: Mesh | None = None,
    ) -> "Plan":
        """Returns the plan of a run with these options of `train`.

        Errors: ValueError for an unknown preset or reading, an impossible step, mesh or number of seeds; TypeError for data.
        """
        kept = steps_of(record, steps)
        mesh = devices.automatic(mesh)
        keys = seed_keys(key, seeds)
        devices.check_divides(mesh, devices.SEED, seeds)
        checked_data(data)
        groups = _groups(_preset(readings), kept)
        _check_recorded(groups, kept)
        every = [reading for group in groups for reading in group.readings]
        inline: Callable = gradients.economy
        for reading in INLINE:  # the last one that is asked for reads all of the others
            if reading in every:
                inline = reading
        separate = []
        for group in groups:
            # The loop itself reads the held-out loss, of held-out text and not of the batch.
            others = [one for one in group.readings if one not in INLINE and one is not gradients.heldout_loss]
            if others:
                separate.append(At(group.steps, *others))
        return cls(data, recipe, keys, steps, kept, inline, tuple(separate), mesh)

    def check(self, models: Mapping) -> None:
        """Raises where memory does not suffice, and for data that a model can't read: a batch, the held-out data, any token."""
        seeds = len(self.keys)
        records = len(self.kept)
        size.check(
            models,
            self.data,
            seeds=seeds,
            copies=TRAINED,
            records=records,
            at_once=at_a_time(seeds),
            steps=self.steps,
            mesh=self.mesh,
        )
        batches, heldout = self.data.batches(self.keys, 0), self.data.held_out()
        devices.check_examples(self.mesh, batches, leading=1)
        devices.check_examples(self.mesh, heldout)
        for name, model in models.items():
            if isinstance(model, Program):
                self._check_program(name)
                programs.check(model, self.keys[0], jax.tree.map(operator.itemgetter(0), batches), heldout)
        models = {name: model for name, model in models.items() if not isinstance(model, Program)}
        if not models:
            return
        if self.recipe.attention_dropout:
            for name, model in models.items():
                check_drops(name, model.stack)
        of_seeds = checked(batches, models, leading=1)
        checked(heldout, models)
        if isinstance(self.data, Text):
            largest = np.full_like(of_seeds["inputs"][0, :1], self.data.tokens.max())
            checked({"inputs": largest, "targets": largest}, models)

    def _check_program(self, name: str) -> None:
        """Refuses what can't be read of a program, or done to it."""
        ours = {reading: word for word, reading in (READINGS | UPDATES).items()}
        every = [self.inline]
        for group in self.separate:
            every += group.readings
        missing = [ours[reading] for reading in every if reading in ours and reading not in OF_PROGRAMS]
        if missing:
            raise ValueError(
                f"{name} is a program, of which {', '.join(missing)} can't be read: ask for 'economy', 'standard' or functions "
                f"of your own, (program, params, batch) -> dict"
            )
        if self.recipe.dropout or self.recipe.attention_dropout:
            raise ValueError(f"{name} is a program, whose dropout is its own: leave dropout out of the recipe")
        if isinstance(self.recipe.optimizer, Muon):
            raise ValueError(
                f"{name} is a program, whose matrices Muon here doesn't know: give optax.contrib.muon with their dimensions"
            )

    def coordinates(self, model, params) -> dict:
        """Returns the coordinates of a model's readings; its parameters have a leading seed axis."""
        if not isinstance(model, Program):
            return coordinates(model, params)
        first = jax.tree.map(operator.itemgetter(0), params)
        return programs.places(model, first, self.data.batch(self.keys[0], 0))

    @property
    def rates(self) -> np.ndarray:
        """Returns the learning rates of the updates after steps 0 … steps; NaN after the last."""
        return np.append(self.recipe.rates(self.steps), np.float32(np.nan))

    def step(self, model) -> Step:
        """Returns the step that is compiled for a model."""
        kind = StepOfProgram if isinstance(model, Program) else Step
        recipe = self.recipe
        shares = {"dropout": recipe.dropout, "attention_dropout": recipe.attention_dropout}
        return kind(model, recipe.direction(), self.inline, **shares, eps=recipe.eps, mesh=self.mesh)

    def further_at(self, step: int) -> tuple[tuple, tuple]:
        """Returns the separate readings of the weights at a step, and of the update that follows it: none at the last."""
        of_weights, of_updates = [], []
        for group in self.separate:
            if step not in group.steps:
                continue
            for reading in group.readings:
                if isinstance(reading, OfUpdate):
                    of_updates.append(reading)
                else:
                    of_weights.append(reading)
        if step == self.steps:
            of_updates = []
        return tuple(of_weights), tuple(of_updates)

    def configuration(self, models: Mapping, key) -> dict:
        """Returns all that decides the numbers of a run, as plain data."""
        separate = []
        for group in self.separate:
            separate.append({"steps": list(group.steps), "readings": list(map(_name, group.readings))})
        return {
            "models": {name: encode(model) for name, model in models.items()},
            "data": self.data.description(),
            "recipe": encode(self.recipe),
            **self._programs(models),
            "key": str(key),
            "seeds": len(self.keys),
            "steps": self.steps,
            "record": list(self.kept),
            "inline": _name(self.inline),
            "separate": separate,
        }

    def readings(self) -> list[dict]:
        """Returns the readings by the names that they are asked for, with the steps at which each group is taken."""
        known = READINGS | UPDATES
        taken = [{"steps": list(self.kept), "readings": [name_of(self.inline, known)]}]
        for group in self.separate:
            names = [name_of(reading, known) for reading in group.readings]
            taken.append({"steps": list(group.steps), "readings": names})
        return taken

    def _programs(self, models: Mapping) -> dict:
        """Returns hashes of what is no plain data, for each model: of an optax transformation's program, of a loss's."""
        rule: Any = self.recipe.optimizer
        found: dict[str, dict] = {"programs": {}, "losses": {}}
        for name, model in models.items():
            weights = shapes(model)
            if isinstance(rule, optax.GradientTransformation):
                found["programs"][name] = program(rule, weights)
            if isinstance(model, Program):
                drawing = jax.make_jaxpr(model.init)(self.keys[0])
                loss = jax.make_jaxpr(model.loss)(weights, self.data.batch(self.keys[0], 0))
                found["losses"][name] = digest_of(drawing, loss)
        return {part: hashes for part, hashes in found.items() if hashes}


def fitting(model, readings: tuple) -> tuple:
    """Returns the readings as they are taken of a model, or of a program."""
    if not isinstance(model, Program):
        return readings
    return tuple(OF_PROGRAMS.get(reading, reading) for reading in readings)


def _groups(asked: Sequence, kept: tuple[int, ...]) -> list[At]:
    """Returns the readings that are asked for by the steps at which they are taken: all recorded ones, unless in an `At`."""
    groups = []
    for item in asked:
        group = item if isinstance(item, At) else At(kept, item)
        groups.append(At(group.steps, *chosen_readings(group.readings, READINGS | UPDATES)))
    return groups


def _check_recorded(groups: list[At], kept: tuple[int, ...]) -> None:
    """Raises where a reading is asked for at a step that is not recorded."""
    asked: set[int] = set()
    for group in groups:
        asked.update(group.steps)
    missed = sorted(asked - set(kept))
    if missed:
        raise ValueError(f"readings are asked for at steps {missed}, but the recorded steps are {kept}")


def _name(reading) -> str:
    """Returns the name of a reading, with the options of a `functools.partial`: the same in every process."""
    if isinstance(reading, OfUpdate):
        return _name(reading.function)
    if isinstance(reading, partial):
        options = list(map(repr, reading.args))
        for key, value in reading.keywords.items():
            options.append(f"{key}={value!r}")
        return f"{_name(reading.func)}({', '.join(options)})"
    return own_name(reading)


def _preset(asked: str | Sequence) -> Sequence:
    """Returns the readings of a preset, or the sequence that was asked for."""
    if isinstance(asked, str):
        if asked in PRESETS:
            return PRESETS[asked]
        return (known("preset or reading", asked, PRESETS, also=READINGS | UPDATES),)
    if not isinstance(asked, Sequence):
        presets = ", ".join(PRESETS)
        raise ValueError(f"readings is {shown(asked)}: a preset ({presets}) or a tuple of readings is needed")
    return asked
