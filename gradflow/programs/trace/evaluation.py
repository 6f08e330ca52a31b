"""A program evaluated again, with taps on chosen values; everything else stays as it was written.

A tap sees a value where it is made, may put another in its place, and may report something of it. Calls keep what they are
for: the body of a `jit` is compiled, that of `remat` is computed again on the way back, a loop stays a loop. Calls without a
tap inside run as they are.

    tap(value, extra) -> Seen(value, apart, report)

`apart` takes the value's place at one use, named in `Plan.apart`: so a skip and a branch that read one array can be told apart.
A tap may also see the sum of several values that is written nowhere, once the variable that `Plan.sums` names is known.
What a tap inside a loop is given has a leading axis for the iterations, and so has what it reports.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax.extend import core
from jax.extend.source_info_util import current_name_stack, user_context

from .graph import CALLS, Path, is_inside, opened, scan_counts


class Seen(NamedTuple):
    """What a tap makes of a value: what takes its place, what takes it at the use apart, and what is reported."""

    value: Any
    apart: Any = None
    report: Any = None


class Use(NamedTuple):
    """One input of the equation at a path."""

    path: Path
    place: int


class Summed(NamedTuple):
    """A tap on the sum of several variables of a level, with a sign each."""

    key: Any
    variables: tuple[Any, ...]
    signs: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Where taps are: by level and variable; the uses that get what a tap sets apart, by the tap's key; and taps on sums."""

    taps: Mapping[Path, Mapping[Any, tuple[Any, ...]]]
    apart: Mapping[Use, Any] = field(default_factory=dict)
    sums: Mapping[Path, Mapping[Any, Summed]] = field(default_factory=dict)

    def inside(self, path: Path) -> tuple[set, set]:
        """Returns the keys of the taps that lie in the call at a path, and those whose values are set apart there."""
        own: set = set()
        for level, variables in self.taps.items():
            if is_inside(level, path):
                own = own.union(*variables.values())
        borrowed: set = set()
        for use, key in self.apart.items():
            if is_inside(use.path, path) and use.path != path:
                borrowed.add(key)
        return own, borrowed - own


def evaluate(plan: Plan, tap: Callable, program, args, extras: Mapping):
    """Returns `(outputs, reports)` of a program (a closed jaxpr); `extras` and `reports` by the keys of the taps."""
    return _run(plan, tap, program, list(args), dict(extras), {}, ())


def _run(plan: Plan, tap: Callable, program, args, extras: dict, apart: dict, path: Path):
    """Returns outputs and reports of the body at a path."""
    jaxpr, constants = opened(program)
    taps = plan.taps.get(path, {})
    sums = plan.sums.get(path, {})
    apart = dict(apart)
    env: dict = {}
    reports: dict = {}

    def bind(variable, value) -> None:
        for key in taps.get(variable, ()):
            seen = tap(key, value, extras[key])
            value = seen.value
            if seen.apart is not None:
                apart[key] = seen.apart
            if seen.report is not None:
                reports[key] = seen.report
        env[variable] = value
        if variable in sums:
            key, variables, signs = sums[variable]
            total = sum(sign * env[one] for one, sign in zip(variables, signs, strict=True))
            reports[key] = tap(key, total, None).report

    for variable, value in zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *args), strict=True):
        bind(variable, value)
    for index, equation in enumerate(jaxpr.eqns):
        here = (*path, index)
        values = []
        for place, variable in enumerate(equation.invars):
            key = plan.apart.get(Use(here, place))
            if key in apart:
                values.append(apart[key])
            else:
                values.append(value_in(env, variable))
        with written_at(equation):
            made, inside = _equation(plan, tap, equation, values, extras, apart, here)
        reports |= inside
        for variable, value in zip(equation.outvars, made, strict=True):
            bind(variable, value)
    return [value_in(env, variable) for variable in jaxpr.outvars], reports


def _equation(plan: Plan, tap: Callable, equation, values, extras: dict, apart: dict, path: Path):
    """Returns what an equation makes, and the reports of the taps inside of it."""
    own, borrowed = plan.inside(path)
    if not own and not borrowed:
        return as_it_was(equation, values), {}
    name = equation.primitive.name
    own_extras = {key: extras[key] for key in own}
    if name == "scan":
        return _scanned(plan, tap, equation, values, own_extras, path)

    def body(args, extras, apart):
        return _run(plan, tap, equation.params[CALLS[name]], args, extras, apart, path)

    own_apart = {key: apart[key] for key in borrowed.intersection(apart)}
    return WRAPPED[name](body, equation.params)(values, own_extras, own_apart)


def _jitted(body, params: Mapping):
    body.__name__ = params.get("name", "jit")
    return jax.jit(body)


def _rematerialized(body, params: Mapping):
    return jax.checkpoint(body, prevent_cse=params["prevent_cse"], policy=params["policy"])


def _plain(body, params: Mapping):
    return body


def _sharded(body, params: Mapping):
    """Returns the body over the shards; what taps get besides is the same for all, what they report is the mean over shards."""
    if not params["check_vma"]:
        raise ValueError(
            "a meter inside of a shard_map with check_vma=False can't tell a shard from a copy: leave the check on, or take "
            "gf.metered inside, which reads each shard's own loss"
        )
    axes = params["newly_manual_axes"]

    def run(values, extras, apart):
        if apart:
            raise ValueError(
                "a residual sublayer is in part inside of a shard_map: its skip can't be told from its branch"
            )

        def local(values, extras):
            made, reports = body(values, extras, {})
            return made, jax.tree.map(lambda report: jax.lax.pmean(report, tuple(axes)), reports)

        everywhere = jax.sharding.PartitionSpec()
        specs_in, specs_out = (list(params["in_specs"]), everywhere), (list(params["out_specs"]), everywhere)
        return jax.shard_map(local, mesh=params["mesh"], in_specs=specs_in, out_specs=specs_out, axis_names=axes)(
            values, extras
        )

    return run


WRAPPED = {
    "shard_map": _sharded,
    "jit": _jitted,
    "pjit": _jitted,
    "closed_call": _plain,
    "core_call": _plain,
    "checkpoint": _rematerialized,
    "remat": _rematerialized,
    "remat2": _rematerialized,
}


def _scanned(plan: Plan, tap: Callable, equation, values, extras: dict, path: Path):
    """Returns what a loop makes, and the reports of its taps, stacked."""
    params = equation.params
    constants, carried = scan_counts(params)
    first, start, rest = values[:constants], values[constants : constants + carried], values[constants + carried :]

    def body(carry, seen):
        slices, own = seen
        made, reports = _run(plan, tap, params["jaxpr"], [*first, *carry, *slices], own, {}, path)
        return made[:carried], (made[carried:], reports)

    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    top, (stacked, reports) = jax.lax.scan(body, start, (rest, extras), **options)
    return [*top, *stacked], reports


def value_in(env: Mapping, variable):
    """Returns the value of a variable of a program, or of a number that stands in its place."""
    if isinstance(variable, core.Literal):
        return variable.val
    return env[variable]


def written_at(equation):
    """Returns a context in which what is traced has the lines and the scopes of an equation."""
    scopes = current_name_stack() + equation.source_info.name_stack
    return user_context(equation.source_info.traceback, name_stack=scopes)


def as_it_was(equation, values) -> list:
    """Returns what an equation makes of these values."""
    bound = equation.primitive.get_bind_params(equation.params)
    if not isinstance(bound, tuple):  # a pair until jax 0.11
        bound = ([], bound)
    functions, params = bound
    made = equation.primitive.bind(*functions, *values, **params)
    if equation.primitive.multiple_results:
        return list(made)
    return [made]
