"""Paths of parameters: which number in them is the depth, which is that of a shard, and what is left, the parameter's name.

A stack is what stands in front of the number of a layer: `transformer.layers.` in `transformer.layers.10.mlp.up.weight`. It is
the one whose numbers run over the longest range 0..L − 1; behind a word for layers (layer, block, h) also 1..L, and such a one
goes first. A number right of an expert or a head, or inside a layer, is never the depth: `w1`, `Dense_0`, `experts.63`.

Where a value is a list, or keys end in `[i]`, the layers lie along it, and the stack goes up to the word for layers.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ...results.arguments import shown

NUMBER = re.compile(r"(?<!\d)\d{1,9}(?![^\W_])")  # `layers.10`, `h10`, `block_10`; not the 2 of `conv2d`
WORD = r"(?:layers?|blocks?|(?<![^\W_])h)"
IN_LAYER = re.compile(rf"{WORD}[./_-]?(?P<number>\d+)(?:[./_-]|$)", re.IGNORECASE)
OF_LAYERS = re.compile(rf".*{WORD}[./_-]?", re.IGNORECASE)
STACKED = re.compile(rf".*?{WORD}[./]", re.IGNORECASE)
NO_DEPTH = re.compile(r".*(?:experts?|(?:^|[./_])heads?)[./_-]?", re.IGNORECASE)
SHARD = re.compile(r"(?:[a-z]+_)*(?:shard|rank)[_-]?(?P<number>\d{1,9})", re.IGNORECASE)
JOINTS = "._/-"  # what joins words
MOST = 100_000  # layers
WHOLE = "all"  # the parameter of a layer's own norm
ALONG = -1  # the layer of a value that holds those of all layers


class Place(NamedTuple):
    """Where a value belongs: the parameter's name, and its layer from 0; None outside the stack, `ALONG` for all of them."""

    parameter: str
    layer: int | None


class Parts(NamedTuple):
    """A key without the number of a shard and without the entry in brackets at its end; None where it has none."""

    key: str
    shard: int | None
    entry: int | None


def parts(key: str) -> Parts:
    """Returns the parts of a key; one as JAX writes paths has its words joined by `/` before.

    >>> parts("rank3/layers/kernel[2]")
    Parts(key='layers/kernel', shard=3, entry=2)
    >>> parts("grad_norm/['layers'][2]['kernel']").key
    'grad_norm/layers/2/kernel'
    """
    key = re.sub(r"\['([^']*)'\]", r"/\1", key)
    key = re.sub(r"\[(\d+)\](?=.)", r"/\1", key)
    key = re.sub(r"/[/.]+", "/", key).lstrip("/.")
    bracket = re.fullmatch(r"(?P<key>.+)\[(?P<entry>\d{1,9})\]", key)
    entry = None
    if bracket is not None:
        key, entry = bracket["key"], int(bracket["entry"])
    words = re.split("([./])", key)  # words at even places, what joins them at odd ones
    for i in range(0, len(words), 2):
        shard = SHARD.fullmatch(words[i])
        if shard is not None and len(words) > 1:
            left = words[: max(i - 1, 0)]
            right = words[i + 1 :] if i else words[2:]
            return Parts("".join(left + right), int(shard["number"]), entry)
    return Parts(key, None, entry)


@dataclass(frozen=True)
class Stack:
    """What stands in front of the number of a layer, and the numbers that there are, in order."""

    prefix: str
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """The prefix as a user writes it."""
        return self.prefix.rstrip(JOINTS)

    @property
    def is_of_layers(self) -> bool:
        """Whether a word for layers stands in front of the number."""
        return OF_LAYERS.fullmatch(self.prefix) is not None

    @property
    def around(self) -> str | None:
        """The prefix of the stack in whose layer this one lies; None where it lies in none."""
        found = IN_LAYER.search(self.prefix)
        return None if found is None else self.prefix[: found.start("number")]

    @property
    def first(self) -> int:
        """The number of the lowest layer: 1 where the record counts from there, else 0."""
        return min(1, self.numbers[0])

    @property
    def depth(self) -> int:
        """The number of layers, with those that are missing."""
        return self.numbers[-1] - self.first + 1

    @property
    def missing(self) -> int | None:
        """The lowest number that is not there; None where there is every one up to the highest."""
        for expected, number in enumerate(self.numbers, start=self.first):
            if number != expected:
                return expected
        return None

    def place(self, path: str) -> Place | None:
        """Returns where a path belongs that is inside the stack; None for one outside."""
        number = NUMBER.match(path, len(self.prefix))
        if number is None or not path.startswith(self.prefix):
            return None
        rest = path[number.end() :].strip(JOINTS)
        return Place(rest or WHOLE, int(number[0]) - self.first)


def along(path: str) -> str:
    """Returns the name of a parameter whose value holds all layers: what follows the word for layers."""
    return STACKED.sub("", path, count=1) or path


def stacks(paths: Iterable[str]) -> list[Stack]:
    """Returns whatever numbers in the paths may count, the one that most likely counts layers first."""
    numbers: dict[str, set[int]] = {}
    for path in paths:
        for number in NUMBER.finditer(path):
            numbers.setdefault(path[: number.start()], set()).add(int(number[0]))
    found = [Stack(prefix, tuple(sorted(of))) for prefix, of in numbers.items()]
    return sorted(found, key=_order)


def _order(stack: Stack) -> tuple:
    """Returns what stacks are sorted by: those with a word for layers, then the longest, then the leftmost."""
    is_likely = stack.is_of_layers and len(stack.numbers) > 1
    return not is_likely, -len(stack.numbers), not stack.is_of_layers, len(stack.prefix), stack.prefix


def stack_of(paths: Iterable[str], layers: str | None) -> Stack | None:
    """Returns the stack whose numbers are the depth; with `layers` the one of that name. None where there is none.

    Errors: ValueError where there are several, or where a layer is missing.
    """
    candidates = stacks(paths)
    if layers is not None:
        return _named(candidates, layers)
    usual = _usual(candidates)
    if not usual:
        return None
    stack, *others = usual
    _check_alone(stack, others)
    if stack.missing is not None:
        raise ValueError(
            f"layer {stack.missing} of {shown(stack.name)} is not in the record, though {stack.numbers[-1]} is: log every "
            f"layer, or have NaN in its place by layers={shown(stack.name)}"
        )
    return stack


def _usual(candidates: list[Stack]) -> list[Stack]:
    """Returns the stacks whose numbers may be the depth.

    The layers of a single block, `block_0.layers.7`, may be; those of each of several blocks are parts.
    """
    several = {stack.prefix for stack in candidates if len(stack.numbers) > 1}
    usual = []
    for stack in candidates:
        is_range = stack.first == 0 and stack.missing is None and len(stack.numbers) > 1
        if stack.around is None:
            may_be = stack.is_of_layers or is_range
        else:
            may_be = stack.is_of_layers and stack.around not in several
        if may_be and not NO_DEPTH.fullmatch(stack.prefix):
            usual.append(stack)
    return usual


def _check_alone(stack: Stack, others: Iterable[Stack]) -> None:
    """Raises where another stack could be meant."""
    rivals = []
    for other in others:
        is_likely = other.is_of_layers and len(other.numbers) > 1
        is_alike = not stack.is_of_layers and len(other.numbers) == len(stack.numbers)
        if is_likely or is_alike:
            rivals.append(other)
    if rivals:
        raise ValueError(
            f"the record has several stacks, {_listed([stack, *rivals])}: name the one that is meant, "
            f"layers={shown(stack.name)}; the others are then outside of it"
        )


def _named(candidates: list[Stack], layers: str) -> Stack | None:
    """Returns the stack of that name, or the one whose name ends with it."""
    wanted = layers.rstrip(JOINTS)
    found = [stack for stack in candidates if stack.name == wanted]
    if not found:
        found = [stack for stack in candidates if re.fullmatch(rf".*[{JOINTS}]{re.escape(wanted)}", stack.name)]
    if len(found) > 1:
        raise ValueError(f"layers={shown(layers)} are several stacks, {_listed(found)}: name one of them in full")
    if found and found[0].depth > MOST:
        raise ValueError(
            f"layers={shown(layers)} has the number {found[0].numbers[-1]}: at most {MOST} layers are read"
        )
    if not found and candidates:
        raise ValueError(f"no stack layers={shown(layers)} in the record, which has {_listed(candidates)}")
    return found[0] if found else None


def _listed(candidates: Iterable[Stack]) -> str:
    """Returns the names of the first stacks with their numbers of layers."""
    listed = [f"{shown(stack.name)} ({len(stack.numbers)})" for stack in candidates]
    if len(listed) > 3:
        listed[3:] = [f"and {len(listed) - 3} more"]
    return ", ".join(listed)
