"""Which dials the meters of a program read, and how often: from the program itself, before it is run.

JAX takes an index beyond the end of an array for the last one, so a dial array that is one too short gives two positions of the
stream one dial, and their squares would be reported as one sum. Every dial is given its own number here, and what of the
program depends on these numbers alone is computed: so it is known which dial each meter is handed, inside of loops too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

SMALL = 2**16  # entries of an array that is computed here


def shared_dials(program: Callable, dials) -> list[str]:
    """The dials of which `program(dials)` gives one to more than one meter: `stream[3] (2 meters)`.

    Under `vmap` a meter is one, however many examples it sees. A dial whose number can't be followed, since its index depends on
    data, counts for its array as a whole.
    """
    leaves, form = jax.tree.flatten(dials)
    ends = np.cumsum([0, *(np.size(leaf) for leaf in leaves)])
    numbers = [np.arange(a, b, dtype=np.float32).reshape(np.shape(leaf)) for leaf, a, b in _between(leaves, ends)]
    jaxpr = jax.make_jaxpr(program)(jax.tree.unflatten(form, numbers)).jaxpr
    read = _Follower()
    read.follow(jaxpr, numbers)
    counts = Counter(int(number) for number in read.numbers)
    found = [f"{_place(dials, ends, number)} ({n} meters)" for number, n in counts.items() if n > 1]
    if not found and read.unknown + len(counts) > ends[-1]:
        found = [f"some of {ends[-1]} dials ({read.unknown + len(counts)} meters)"]
    return found


def _between(leaves, ends):
    return zip(leaves, ends[:-1], ends[1:], strict=True)


def _place(dials, ends, number: int) -> str:
    """The name of a dial, from its number."""
    leaf = int(np.searchsorted(ends, number, side="right")) - 1
    path, array = jax.tree_util.tree_leaves_with_path(dials)[leaf]
    at = [int(i) for i in np.unravel_index(number - ends[leaf], np.shape(array))]
    return f"{jax.tree_util.keystr(path, simple=True, separator='/')}{at or ''}"


class _Follower:
    """Follows what is known through a program, and notes what meters are handed: `numbers`, or how many are `unknown`."""

    def __init__(self):
        self.numbers: list[float] = []
        self.unknown = 0

    def follow(self, jaxpr, inputs: Sequence) -> list:
        """What is known of the outputs, None for the rest, from what is known of the inputs."""
        known: dict = dict(zip(jaxpr.invars, inputs, strict=True))
        value = lambda atom: atom.val if isinstance(atom, Literal) else known.get(atom)
        for eqn in jaxpr.eqns:
            outputs = self.step(eqn, [value(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outputs, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def step(self, eqn, inputs: list) -> list:
        """One equation."""
        nothing: list = [None] * len(eqn.outvars)
        name, inner = eqn.primitive.name, _inner(eqn)
        if name == "custom_vjp_call" and inner.debug_info.func_name == "meter":
            self.note(inputs[1], eqn.invars[1].aval.size)
            return nothing
        if name == "scan":
            return self.loop(eqn, inner, inputs)
        if name == "cond":
            return self.branch(eqn, inputs)
        if inner is not None and len(inner.invars) == len(inputs):
            return self.follow(inner, inputs)
        small = all(out.aval.size <= SMALL for out in eqn.outvars)
        if small and not eqn.effects and all(one is not None for one in inputs):
            found = eqn.primitive.bind(*map(jnp.asarray, inputs), **eqn.params)
            return list(found) if eqn.primitive.multiple_results else [found]
        return nothing

    def note(self, dial, size: int) -> None:
        """A meter's dial."""
        if dial is None:
            self.unknown += size
        else:
            self.numbers += np.ravel(dial).tolist()

    def loop(self, eqn, body, inputs: list) -> list:
        """A scan: its body once an iteration, since each may be handed another dial."""
        consts, carried = _arity(eqn.params)
        carry, rows = inputs[consts : consts + carried], inputs[consts + carried :]
        for i in range(eqn.params["length"]):
            at = eqn.params["length"] - 1 - i if eqn.params["reverse"] else i
            own = [None if row is None else row[at] for row in rows]
            carry = self.follow(body, [*inputs[:consts], *carry, *own])[:carried]
        return [*carry, *[None] * (len(eqn.outvars) - carried)]

    def branch(self, eqn, inputs: list) -> list:
        """A conditional: the branch that is taken, or, where that isn't known, the one with the most meters."""
        which, *operands = inputs
        branches = [getattr(one, "jaxpr", one) for one in eqn.params["branches"]]
        if which is not None:
            return self.follow(branches[int(which)], operands)
        tried = []
        for one in branches:
            inside = _Follower()
            inside.follow(one, operands)
            tried.append(inside)
        most = max(tried, key=lambda inside: len(inside.numbers) + inside.unknown)
        self.numbers += most.numbers
        self.unknown += most.unknown
        return [None] * len(eqn.outvars)


def _inner(eqn) -> Any:
    """The program inside an equation, where it has one: a jaxpr, closed or not, under the names that JAX gives it."""
    found = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    return getattr(found, "jaxpr", found)


def _arity(params) -> tuple[int, int]:
    """How many inputs of a scan are constants, and how many are carried; jax 0.12 writes it otherwise than 0.10."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))
