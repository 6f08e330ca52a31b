"""Which dials the meters of a program read, and how often: from the program itself, before it is run.

JAX takes an index beyond the end of an array for the last one, so a dial array that is one too short gives two positions of the
stream one dial, and their squares would be reported as one sum. Every dial is given its own number here, and what of the
program depends on these numbers alone is computed: so it is known which dial each meter is handed, inside of loops too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

SMALL = 2**16  # entries of an array that is computed here


def shared_dials(program: Callable, dials) -> list[str]:
    """Returns the dials of which `program(dials)` gives one to more than one meter: `stream[3] (2 meters)`.

    Under `vmap` a meter is one, however many examples it sees. A dial whose number can't be followed, since its index depends on
    data, counts for its array as a whole.
    """
    numbered, names = _numbered(dials)
    closed = jax.make_jaxpr(program)(numbered)
    _, handed = _follow(closed.jaxpr, jax.tree.leaves(numbered))
    counts = Counter(handed.numbers)
    shared: list[str] = []
    for number, meters in counts.items():
        if meters > 1:
            shared.append(f"{names[number]} ({meters} meters)")
    at_least = len(counts) + handed.unknown  # meters, if every dial that could not be followed has one of its own
    if not shared and at_least > len(names):
        return [f"some of {len(names)} dials ({at_least} meters)"]
    return shared


def _numbered(dials) -> tuple[Any, list[str]]:
    """Returns the dials with their numbers in the place of their values, and the name of each number."""
    leaves = []
    names: list[str] = []
    for path, array in jax.tree_util.tree_leaves_with_path(dials):
        shape = np.shape(array)
        array_name = jax.tree_util.keystr(path, simple=True, separator="/")
        first = len(names)
        for index in np.ndindex(shape):
            names.append(f"{array_name}{list(index) or ''}")
        leaves.append(np.arange(first, len(names), dtype=np.float32).reshape(shape))
    return jax.tree.unflatten(jax.tree.structure(dials), leaves), names


@dataclass(frozen=True)
class Handed:
    """The dials that meters are handed: their `numbers`, and how many there are whose number is `unknown`."""

    numbers: list[int]
    unknown: int

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.numbers) + self.unknown


NONE = Handed([], 0)


def _together(parts: Sequence[Handed]) -> Handed:
    """Returns all the dials of several parts of a program."""
    numbers: list[int] = []
    unknown = 0
    for part in parts:
        numbers += part.numbers
        unknown += part.unknown
    return Handed(numbers, unknown)


def _follow(jaxpr, inputs: Sequence) -> tuple[list, Handed]:
    """Returns what is known of a program's outputs (None: nothing) from what is known of its inputs, and its meters' dials."""
    values: dict = dict(zip(jaxpr.invars, inputs, strict=True))

    def known_of(atoms) -> list:
        known = []
        for atom in atoms:
            known.append(atom.val if isinstance(atom, Literal) else values.get(atom))
        return known

    handed = []
    for eqn in jaxpr.eqns:
        outputs, dials = _step(eqn, known_of(eqn.invars))
        handed.append(dials)
        values.update(zip(eqn.outvars, outputs, strict=True))
    return known_of(jaxpr.outvars), _together(handed)


def _step(eqn, inputs: list) -> tuple[list, Handed]:
    """Returns what `_follow` does, of one equation."""
    name = eqn.primitive.name
    inner = _inner(eqn)
    if name == "custom_vjp_call" and inner.debug_info.func_name == "metered_identity":
        return _nothing_of(eqn), _dials_of_meter(inputs[1], eqn.invars[1].aval.size)
    if name == "scan":
        return _loop(eqn, inner, inputs)
    if name == "cond":
        return _branch(eqn, inputs)
    if inner is not None and len(inner.invars) == len(inputs):
        return _follow(inner, inputs)
    if _is_computed(eqn, inputs):
        outputs = eqn.primitive.bind(*map(jnp.asarray, inputs), **eqn.params)
        if not eqn.primitive.multiple_results:
            outputs = [outputs]
        return list(outputs), NONE
    return _nothing_of(eqn), NONE


def _nothing_of(eqn) -> list:
    """Returns outputs of which nothing is known."""
    return [None] * len(eqn.outvars)


def _is_computed(eqn, inputs: list) -> bool:
    """Returns whether an equation is computed here: its inputs are known, and its outputs small."""
    if eqn.effects:
        return False
    for value in inputs:
        if value is None:
            return False
    return all(output.aval.size <= SMALL for output in eqn.outvars)


def _dials_of_meter(dial, size: int) -> Handed:
    """Returns the dials that one meter is handed, `size` of them."""
    if dial is None:
        return Handed([], size)
    return Handed(np.ravel(dial).astype(int).tolist(), 0)


def _loop(eqn, body, inputs: list) -> tuple[list, Handed]:
    """Returns what `_follow` does, of a scan: its body once an iteration, since each may be handed another dial."""
    constants, carried = _arity(eqn.params)
    fixed = inputs[:constants]
    carry = inputs[constants : constants + carried]
    stacked = inputs[constants + carried :]
    iterations = range(eqn.params["length"])
    if eqn.params["reverse"]:
        iterations = iterations[::-1]
    handed = []
    for iteration in iterations:
        rows = []
        for array in stacked:
            rows.append(None if array is None else array[iteration])
        outputs, dials = _follow(body, [*fixed, *carry, *rows])
        carry = outputs[:carried]
        handed.append(dials)
    unknown = [None] * (len(eqn.outvars) - carried)
    return [*carry, *unknown], _together(handed)


def _branch(eqn, inputs: list) -> tuple[list, Handed]:
    """Returns what `_follow` does, of a conditional: of its branch that is taken.

    Where that isn't known, nothing of the outputs, and the dials of the branch with the most meters.
    """
    which, *operands = inputs
    branches = eqn.params["branches"]
    if which is not None:
        return _follow(_opened(branches[int(which)]), operands)
    handed = []
    for branch in branches:
        _, dials = _follow(_opened(branch), operands)
        handed.append(dials)
    return _nothing_of(eqn), max(handed, key=lambda dials: dials.count)


def _inner(eqn) -> Any:
    """Returns the program inside an equation, None where it has none; JAX keeps it under one of two names."""
    return _opened(eqn.params.get("jaxpr", eqn.params.get("call_jaxpr")))


def _opened(program) -> Any:
    """Returns a program that JAX has closed over its constants without them, and any other as it is."""
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _arity(params) -> tuple[int, int]:
    """Returns how many inputs of a scan are constants, and how many are carried; jax 0.12 writes it otherwise than 0.10."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))
