"""Norms of the layers of a stack, of their parameters and of what is outside it, from norms by path.

Axes: S steps, L layers from the input on, P parameters of a layer, O parameters outside.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ...results.arguments import shown
from .paths import WHOLE, Place, along, stack_of
from .wholes import ONE_OF_TWO, Columns, root_of_squares
from .writers import some

# Last words of a parameter's path: what bare paths are known by.
PARAMETER = re.compile(r"(?:.*[./_])?(?:weight|bias|kernel|scale|offset|embedding|gamma|beta|[wb])\d*")


@dataclass(frozen=True)
class Norms:
    """The norms of a record, with names in its order.

    `inside` [S, L, P], NaN where a layer has no such parameter, which `exists` [L, P] says; `outside` [S, O]; `stack` is what the
    record calls the layers, `first` its number of the lowest, and `used` the paths whose norms these are.
    """

    inside: np.ndarray
    exists: np.ndarray
    parameters: list[str]
    outside: np.ndarray
    outer: list[str]
    stack: str
    first: int
    used: frozenset[str]

    @property
    def layers(self) -> np.ndarray:
        """The norm of each layer [S, L]: of all its parameters together; NaN for a layer that is missing."""
        norms = root_of_squares(np.where(self.exists, self.inside, 0.0))
        return np.where(self.exists.any(axis=-1), norms, np.nan)

    @property
    def total(self) -> np.ndarray:
        """The norm of everything [S]; NaN where a part of it is."""
        of_layers = self.layers[:, self.exists.any(axis=-1)]
        return root_of_squares(np.concatenate([of_layers, self.outside], axis=-1))

    @property
    def sum(self) -> np.ndarray:
        """The sum of all norms [S], which some tools log as their total."""
        return np.where(self.exists, self.inside, 0.0).sum(axis=(1, 2)) + self.outside.sum(axis=1)


@dataclass
class Laid:
    """Norms [S] by their place in a stack of `depth` layers, and by path outside it; `used` are the paths of those inside."""

    stack: str
    depth: int
    first: int = 0
    inside: dict[Place, np.ndarray] = field(default_factory=dict)
    outside: Columns = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def put(self, path: str, place: Place, norm: np.ndarray) -> None:
        """Takes a norm up that is inside the stack."""
        if place in self.inside:
            raise ValueError(f"two columns of the record are of {shown(path)}: {ONE_OF_TWO}")
        self.inside[place] = norm
        self.used.add(path)


def likely(paths: Mapping[str, bool], layers: str | None) -> list[str]:
    """Returns which of bare paths are likely norms: those whose last word is a parameter's, and others in a stack with such.

    `paths` says whether the value is a list.

    Errors: ValueError where none is in a stack.
    """
    of_parameters = [path for path in paths if PARAMETER.fullmatch(path)]
    lists = [path for path in of_parameters if paths[path]]
    stack = stack_of([path for path in of_parameters if not paths[path]], None if lists else layers)
    if stack is None and not lists:
        raise no_layers(paths)
    others = []
    for path, is_list in paths.items():
        if not is_list and path not in of_parameters and stack is not None and stack.place(path) is not None:
            others.append(path)
    return of_parameters + others


def no_layers(keys: Collection[str]) -> ValueError:
    """Returns the error about a record without layers."""
    return ValueError(
        "no key of the record is known for a norm and has the number of a layer, as grad_norm/layers.3.mlp.weight has: log "
        f"norms so, or name what begins their keys, prefix='…'; keys: {some(keys)}"
    )


def norms_of(norms: Columns, layers: str | None) -> Norms:
    """Returns the norms of a stack from norms by path: [S], or [S, L] of a list over layers.

    Errors: ValueError where no key has a layer, where several may be the layer, where one is missing, and where a whole stands
    beside its parts.
    """
    lists = {path: values for path, values in norms.items() if values.ndim > 1}
    single = {path: values for path, values in norms.items() if values.ndim == 1}
    laid = _by_list(lists, single, layers) if lists else _by_key(single, layers)
    _check_parts(laid)
    return _arrays(laid)


def _by_key(single: Columns, layers: str | None) -> Laid:
    """Returns norms whose keys have the number of the layer."""
    stack = stack_of(single, layers)
    if stack is None:
        raise no_layers(single)
    laid = Laid(stack.name, stack.depth, stack.first)
    for path, norm in single.items():
        place = stack.place(path)
        if place is None:
            laid.outside[path] = norm
        else:
            laid.put(path, place, norm)
    return laid


def _by_list(lists: Columns, single: Columns, layers: str | None) -> Laid:
    """Returns norms in lists over layers; with `layers` those of another stack are outside, a norm each."""
    stack = stack_of(lists, None) or stack_of(single, None)
    if stack is not None and stack.is_of_layers:
        raise ValueError(
            f"{shown(next(iter(lists)))} is a list over layers, but {shown(stack.name)} has a key for each: log one way, or "
            "name those that are meant by what they begin with, prefix='…'"
        )
    meant = {path: norms for path, norms in lists.items() if _is_in(layers, path)}
    if not meant:
        raise ValueError(f"no list over layers is in layers={shown(layers)}; keys: {some(lists)}")
    stacks = {}
    for path, norms in meant.items():
        stacks[path.removesuffix(along(path)).rstrip("./"), norms.shape[1]] = path
    (name, depth), *others = stacks
    if others:
        raise ValueError(
            f"the record has several stacks: {shown(stacks[name, depth])} is a list over {depth} layers, "
            f"{shown(stacks[others[0]])} over {others[0][1]}; name the one that is meant, layers='…', the others are then "
            "outside of it"
        )
    laid = Laid(name, depth, outside=dict(single))
    for path, norms in lists.items():
        if path not in meant:
            laid.outside[path] = root_of_squares(norms)
            continue
        for layer, norm in enumerate(norms.T):
            laid.put(path, Place(along(path), layer), norm)
    return laid


def _is_in(layers: str | None, path: str) -> bool:
    """Returns whether a path has the name of a stack in it; any path where no name is given."""
    return layers is None or re.search(rf"(?:^|[./_]){re.escape(layers)}(?:[./_]|$)", path) is not None


def _check_parts(laid: Laid) -> None:
    """Raises where a norm is that of others together, which would count twice."""
    names = list(dict.fromkeys(place.parameter for place in laid.inside))
    pair = _whole_and_part([name for name in names if name != WHOLE]) or _whole_and_part([*laid.outside, *laid.used])
    if WHOLE in names and len(names) > 1:
        pair = f"a whole layer of {laid.stack}", next(name for name in names if name != WHOLE)
    if laid.stack in laid.outside:
        pair = laid.stack, next(iter(laid.used))
    if pair is not None:
        raise ValueError(
            f"the record has {shown(pair[0])} and a part of it, {shown(pair[1])}, which would count twice: {ONE_OF_TWO}"
        )


def _whole_and_part(names: Collection[str]) -> tuple[str, str] | None:
    """Returns two names of which the second goes on where the first ends; None where there are none.

    A bias is no part: `down` and `down.bias` may be a matrix and its bias, as gradflow calls them.
    """
    known = set(names)
    for name in names:
        for joint in re.finditer("[./]", name):
            if name[: joint.start()] in known and name[joint.end() :] != "bias":
                return name[: joint.start()], name
    return None


def _arrays(laid: Laid) -> Norms:
    """Returns the norms as arrays."""
    parameters = list(dict.fromkeys(place.parameter for place in laid.inside))
    columns = {name: i for i, name in enumerate(parameters)}
    steps = len(next(iter(laid.inside.values())))
    inside = np.full((steps, laid.depth, len(parameters)), np.nan)
    exists = np.zeros((laid.depth, len(parameters)), bool)
    for (name, layer), norm in laid.inside.items():
        inside[:, layer, columns[name]] = norm
        exists[layer, columns[name]] = True
    outside = np.empty((steps, len(laid.outside)))
    for i, norm in enumerate(laid.outside.values()):
        outside[:, i] = norm
    used = frozenset([*laid.used, *laid.outside])
    return Norms(inside, exists, parameters, outside, list(laid.outside), laid.stack, laid.first, used)
