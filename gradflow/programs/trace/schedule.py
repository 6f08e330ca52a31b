"""A program in another order: additions run as soon as they can, and what only scales their terms right in front of them.

Written as `x = norm(x + f); y = y + f`, both sums come before the norm: so that the streams of a program, where there are
several, are sums at one time. It is the same program: an order in which its equations can run.
"""

from jax.extend import core

from .graph import CALLS, opened
from .sums import ADDITIONS

BODIES = {**CALLS, "scan": "jaxpr"}
SCALINGS = {"mul", "div", "neg", "convert_element_type"}


def scheduled(program):
    """Returns a program, a jaxpr closed or not, with its equations and those of its bodies in that order."""
    jaxpr, _ = opened(program)
    if jaxpr is not program:  # one class of programs since jax 0.12
        return program.replace(jaxpr=scheduled(jaxpr))
    equations = [_with_body_scheduled(equation) for equation in program.eqns]
    return program.replace(eqns=_ordered(equations))


def _with_body_scheduled(equation):
    """Returns an equation whose body, where it has one, is in order."""
    name = equation.primitive.name
    if name not in BODIES:
        return equation
    body = scheduled(equation.params[BODIES[name]])
    return equation.replace(params={**equation.params, BODIES[name]: body})


def _ordered(equations: list) -> list:
    """Returns equations in that order."""
    makers = {}
    for place, equation in enumerate(equations):
        for variable in equation.outvars:
            makers[variable] = place
    waits_for: list[list[int]] = []
    users: list[list[int]] = [[] for _ in equations]
    for place, equation in enumerate(equations):
        makers_of_inputs = [makers[variable] for variable in _variables(equation) if variable in makers]
        waits_for.append(makers_of_inputs)
        for maker in makers_of_inputs:
            users[maker].append(place)
    names = [equation.primitive.name for equation in equations]
    deferred = [False] * len(equations)
    for place in reversed(range(len(equations))):
        feeds_sums = all(names[user] in ADDITIONS or deferred[user] for user in users[place])
        deferred[place] = names[place] in SCALINGS and bool(waits_for[place]) and bool(users[place]) and feeds_sums
    keys: list[tuple[float, ...]] = []
    for place, makers_of_inputs in enumerate(waits_for):
        key: tuple[float, ...] = (place,)
        if makers_of_inputs and (deferred[place] or names[place] in ADDITIONS):
            key = (*max(keys[maker] for maker in makers_of_inputs), place)
        keys.append(key)
    for place in reversed(range(len(equations))):
        if deferred[place]:
            first = min(users[place], key=keys.__getitem__)
            *ahead, last = keys[first]
            keys[place] = keys[first] if deferred[first] else (*ahead, last - 0.5)
    order = sorted(range(len(equations)), key=keys.__getitem__)
    return [equations[place] for place in order]


def _variables(equation) -> list:
    """Returns the inputs of an equation that are no numbers."""
    return [variable for variable in equation.invars if not isinstance(variable, core.Literal)]
