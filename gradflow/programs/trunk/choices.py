"""Residual sublayers that a `cond` leaves out, as by stochastic depth: the choice is moved from the stream into its branch.

    x' = cond(p, x + F(x), x)      becomes      x' = x + cond(p, F(x), 0)

the same function, to the last bit where each choice is one sublayer (of several in a row, branches are added up before x is).
The stream then goes past the choice, whose skip is the identity. Of other choices, and of those that `vmap` has made a `select`,
the cuts before and after are positions, and what is between them is no sublayer.

A `while` has no derivative backwards in JAX; a `fori_loop` of a fixed length is a `scan`, and is looked into.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..trace.evaluation import as_it_was, value_in, written_at
from ..trace.graph import CALLS, graph, opened, reached
from .trunk import Fork, steps

BODIES = {name: body for name, body in (*CALLS.items(), ("scan", "jaxpr")) if name != "shard_map"}


class Addition(NamedTuple):
    """What a choice adds to an operand: variables of its program with a sign each; none where it hands the operand on."""

    variables: tuple
    signs: tuple[int, ...]


class Residual(NamedTuple):
    """A `cond` of which each choice adds to an operand, or hands it on: which operand, which output, and what is added."""

    operand: int
    output: int
    additions: tuple[Addition, ...]


def with_choices_in_branches(program):
    """Returns a program with every choice of residual sublayers moved into their branches; itself where it has none."""
    if not _has_choice(program):
        return program
    jaxpr, constants = opened(program)
    if len(constants) < len(jaxpr.constvars):
        return program

    def run(*arguments):
        made, _ = _evaluated(jaxpr, (*constants, *arguments), _made)
        return made

    shapes = [jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype) for variable in jaxpr.invars]
    rewritten = jax.make_jaxpr(run)(*shapes)
    inner, of_rewritten = opened(rewritten)
    if of_rewritten and not constants:
        return program
    return rewritten if type(program) is type(rewritten) else inner


def _has_choice(program) -> bool:
    """Returns whether there is a `cond` in a program, or in a body that is looked into."""
    jaxpr, _ = opened(program)
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "cond" or (name in BODIES and _has_choice(equation.params[BODIES[name]])):
            return True
    return False


def _made(equation, taken: list) -> list:
    """Returns what an equation makes, its body's choices moved."""
    name = equation.primitive.name
    if name == "cond":
        return _chosen(equation, taken)
    if name in BODIES:
        body = with_choices_in_branches(equation.params[BODIES[name]])
        equation = equation.replace(params={**equation.params, BODIES[name]: body})
    return as_it_was(equation, taken)


def _chosen(equation, taken: list) -> list:
    """Returns what a choice makes: what it takes on a stream, and what its branches add."""
    found = _residual(equation)
    if found is None:
        return as_it_was(equation, taken)
    index, *operands = taken

    def choice(program, addition):
        def of_operands(*operands):
            jaxpr, constants = opened(program)
            made, env = _evaluated(jaxpr, (*constants, *operands), as_it_was)
            total = jnp.zeros_like(operands[found.operand])
            for place, (variable, sign) in enumerate(zip(*addition, strict=True)):
                signed = sign * env[variable]
                total = total + signed if place else signed
            made[found.output] = total
            return made

        return of_operands

    choices = [choice(*pair) for pair in zip(equation.params["branches"], found.additions, strict=True)]
    made = list(jax.lax.switch(index, choices, *operands))
    made[found.output] = operands[found.operand] + made[found.output]
    return made


def _evaluated(jaxpr, arguments, make: Callable) -> tuple[list, Mapping]:
    """Returns what a program makes of its constants and arguments, and all of its variables; `make` evaluates an equation."""
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), arguments, strict=True))
    for equation in jaxpr.eqns:
        taken = [value_in(env, variable) for variable in equation.invars]
        with written_at(equation):
            env.update(zip(equation.outvars, make(equation, taken), strict=True))
    return [value_in(env, variable) for variable in jaxpr.outvars], env


def _residual(equation) -> Residual | None:
    """Returns how a choice adds to one of its operands; None where it does otherwise."""
    programs = equation.params["branches"]
    graphs = [graph(program) for program in programs]
    for output in range(len(equation.outvars)):
        for operand in range(len(equation.invars) - 1):
            additions = [_addition(of, operand, output) for of in graphs]
            if all(addition is not None for addition in additions) and any(one.variables for one in additions if one):
                return Residual(operand, output, tuple(one for one in additions if one is not None))
    return None


def _addition(of, operand: int, output: int) -> Addition | None:
    """Returns what a choice adds to an operand by sublayers whose skip is the identity."""
    x, total = of.inputs[operand], of.outputs[output]
    if x is total:
        return Addition((), ())
    if x.shape != total.shape or not x.floating or total not in of.makers:
        return None
    learned = reached(of.operations, set(of.inputs) - {x})
    variables, signs = [], []
    level = of.levels[()]
    below = x
    for step in steps(of, x, total, learned):
        if not isinstance(step, Fork) or len(step.skips) != 1 or step.skips[0].chain or step.below is not below:
            return None
        below = step.above
        for term in step.branches:
            own = level.variables(term.value)
            if not own or term.value.shape != x.shape:
                return None
            variables.append(own[0])
            signs.append(term.sign)
    return Addition(tuple(variables), tuple(signs)) if below is total else None
