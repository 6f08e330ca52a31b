"""Cases: one line of Python each, with what is expected of it; and pools of values, valid and not, to change an argument to.

What a value should lead to is written down here by hand, from what the documentation promises, not from the code's own checks:

    REFUSED    one short line that the library raises on purpose
    RIGHT      it runs, and the check around it holds
    EITHER     refused, or right by the same check
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

REFUSED, RIGHT, EITHER = "refused", "right", "either"
# A number whose work or memory no machine has: refused by an estimate, and tried only where that is asked for.
HUGE = "huge"
KINDS = ("command", "python", "batch", "file", "folder")
SHARES = {"command": 0.28, "python": 0.32, "batch": 0.13, "file": 0.14, "folder": 0.13}

Pool = Mapping[str, str]  # {what is written for the value: what it should lead to}


@dataclass(frozen=True)
class Case:
    """A line of code, evaluated in the names of `world`; `needs` are what `world.prepared` makes before the clock runs."""

    kind: str
    number: int
    code: str
    expected: str
    needs: tuple[str, ...] = ()
    huge: bool = False

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return f"{self.kind}-{self.number}"


@dataclass(frozen=True)
class Line:
    """A case before it is numbered."""

    code: str
    expected: str
    needs: tuple[str, ...] = ()
    huge: bool = False


def numbered(kind: str, lines: Iterator[Line], count: int) -> list[Case]:
    """The first `count` different lines, in order; those of a kind have the same numbers whatever the others are."""
    found: dict[str, Line] = {}
    for line in islice(lines, 20 * count + 1000):
        found.setdefault(line.code, line)
        if len(found) == count:
            break
    return [Case(kind, i, one.code, one.expected, one.needs, one.huge) for i, one in enumerate(found.values())]


def cases(seed: int, count: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """`count` cases shared out between all kinds, of which those of `kinds`."""
    from . import arguments, batches, commands, files, folders

    makers = dict(zip(KINDS, (commands, arguments, batches, files, folders), strict=True))
    return [
        case
        for kind in kinds
        for case in numbered(kind, makers[kind].lines(Random(f"{seed}/{kind}")), round(SHARES[kind] * count))
    ]


def together(verdicts: Sequence[str]) -> str:
    """What several changes at once should lead to."""
    if any(verdict in (REFUSED, HUGE) for verdict in verdicts):
        return REFUSED
    return EITHER if EITHER in verdicts else RIGHT


# ---- pools of Python values ---------------------------------------------------------------------------------

NOT_NUMBERS = (
    "'3'",
    "''",
    "[1]",
    "{}",
    "()",
    "1 + 0j",
    "object()",
    "b'1'",
    "np.array([1, 2])",
    "float",
    "lambda: 1",
    "{1}",
)
NOT_WHOLE = (*NOT_NUMBERS, "1.5", "1.0", "True", "float('nan')", "float('inf')", "np.float32(1)", "Fraction(3, 2)")
NOT_WHOLE += (
    "Decimal('1')",
    "np.bool_(True)",
    "jnp.asarray(1.0)",
    "np.array([1])",
    "[[]]",
    "range(2)",
    "'one'",
    "datetime(1, 1, 1)",
)
LARGE = ("10**9", "10**12", "2**31 - 1", "2**31", "2**63 - 1", "2**63", "2**64", "10**400", "np.iinfo(np.int64).max")
BELOW = ("0", "-1", "-(2**31)", "-(2**63)", "-(2**64)", "-(10**400)", "np.int8(-1)")


def whole(*good: str, least: int = 1, none: str = REFUSED, large: str = HUGE, least_words: Sequence[str] = ()) -> dict:
    """For a whole number from `least` (1 or 0) on; `good` are codes that run here."""
    pool = dict.fromkeys((*NOT_WHOLE, *BELOW, *least_words), REFUSED) | dict.fromkeys(LARGE, large)
    if least <= 0:
        pool.pop("0")
    return pool | {"None": none} | dict.fromkeys(good, RIGHT)


NOT_REAL = (
    *(code for code in NOT_NUMBERS if code != "1 + 0j"),
    "1j",
    "float('nan')",
    "float('inf')",
    "-float('inf')",
    "10**400",
)
NOT_REAL += (
    "np.nan",
    "np.float32('inf')",
    "'nan'",
    "Decimal('nan')",
    "jnp.nan",
    "True",
    "'0.5'",
    "[0.5]",
    "np.array([0.5, 1])",
)


def real(*good: str, bad: Sequence[str] = (), none: str = REFUSED, maybe: Sequence[str] = ()) -> dict:
    """For a finite number; `bad` are codes outside its bounds."""
    pool = dict.fromkeys((*NOT_REAL, *bad), REFUSED) | dict.fromkeys(maybe, EITHER)
    return pool | {"None": none} | dict.fromkeys(good, RIGHT)


NOT_NAMES = (
    "''",
    "' '",
    "'é'",
    "'π'",
    "'a' * 100_000",
    "'a\\nb'",
    "'\\0'",
    "'\\ud800'",
    "'%s'",
    "'{}'",
    "'../x'",
    "'$x$'",
)
NOT_NAMES += (
    "3",
    "1.5",
    "b'pre'",
    "object()",
    "[]",
    "{}",
    "float('nan')",
    "True",
    "'None'",
    "'\\u202e'",
    "'x' * 61",
    "[[1]]",
)


def words(text: str) -> list[str]:
    """Codes that are written one beside the other, with bars between them."""
    return [code.strip() for line in text.strip().splitlines() for code in line.split(" | ")]


def misspelt(name: str) -> list[str]:
    """Names that are nearly that one."""
    turned = name[:-2] + name[-1:] + name[-2:-1]
    near = [name[1:], f"{name}s", name.upper(), f" {name}", f"{name} ", turned, f"{name}\n", name[: len(name) // 2]]
    return [repr(one) for one in near if one not in (name, "")]


def names(*known: str, none: str = REFUSED, also: Sequence[str] = (), alike: Sequence[str] = ()) -> dict:
    """For one of some names; `also` are codes that are right beside them, `alike` misspellings that are names themselves."""
    wrong = [code for name in known for code in misspelt(name) if code not in map(repr, (*known, *alike))]
    pool = dict.fromkeys((*NOT_NAMES, *wrong), REFUSED) | {"None": none}
    return pool | dict.fromkeys(map(repr, known), RIGHT) | dict.fromkeys(also, RIGHT)


def of(refused: Sequence[str] = (), right: Sequence[str] = (), either: Sequence[str] = ()) -> dict:
    """A pool written out."""
    return dict.fromkeys(refused, REFUSED) | dict.fromkeys(right, RIGHT) | dict.fromkeys(either, EITHER)


@dataclass(frozen=True)
class Call:
    """A call that is right, and what each argument may be changed to.

    `code` is the call with `…` where changed arguments go in, and `check` the name of what its result is handed to; arguments
    that are always there are in `base`, and are replaced where one of that name is changed.
    """

    code: str
    pools: Mapping[str, Pool]
    base: Mapping[str, str]
    check: str = "passed"
    needs: tuple[str, ...] = ()
    weight: float = 1.0

    def written(self, changed: Mapping[str, str]) -> str:
        """The line."""
        options = {**self.base, **changed}
        return f"{self.check}({self.code.replace('…', ', '.join(f'{k}={v}' for k, v in options.items()))})"

    def line(self, chance: Random) -> Line:
        """One or two arguments changed; to something refused, most of the time."""
        changed, verdicts = {}, []
        for name in chance.sample(sorted(self.pools), min(len(self.pools), 1 + (chance.random() < 0.15))):
            pool = self.pools[name]
            wanted = REFUSED if chance.random() < 0.85 else None
            codes = [code for code, verdict in pool.items() if wanted is None or verdict in (wanted, HUGE)]
            changed[name] = chance.choice(codes or list(pool))
            verdicts.append(pool[changed[name]])
        if chance.random() < 0.03:
            changed[chance.choice(UNKNOWN)] = "1"
            verdicts.append(REFUSED)
        return Line(self.written(changed), together(verdicts), self.needs, HUGE in verdicts)


UNKNOWN = ("sedes", "Seeds", "seeds_", "n_layers", "learning_rate", "batch_size", "device", "verbose")


def changes(calls: Sequence[Call], chance: Random) -> Iterator[Line]:
    """Calls with some arguments changed, without end: first every call as it is, then every value of every pool in turn."""
    for call in calls:
        yield Line(call.written({}), RIGHT, call.needs)
    weights = [call.weight for call in calls]
    while True:
        yield chance.choices(calls, weights)[0].line(chance)


def mixed(chance: Random, *streams: Iterator[Line]) -> Iterator[Line]:
    """Lines of streams by turns until all have ended, those without an end last."""
    live = list(streams)
    while live:
        for stream in list(live):
            try:
                yield next(stream)
            except StopIteration:
                live.remove(stream)


# ---- the suite ----------------------------------------------------------------------------------------------

# What waits for the compiler, or draws: left to the whole fuzz, but for a few.
LONG = (
    "unmoved(",
    "complete(",
    "twice(",
    "went_on",
    "made_again",
    "rewritten",
    "gf.atlas",
    "'atlas'",
    "both_sides",
    "names_of",
)
LONG += (
    "gf.plot",
    "sweep",
    "predict",
    "checkpoints_apart",
    "spectral",
    "experiments",
    "halfway",
    "not_finite",
    "only_checkpoints",
)
# What the test extra does not bring: the suite tries it elsewhere, where it is there.
ABSENT = ("torch_module", "tensor(")
PARTS = {"command": 55, "python": 70, "batch": 30, "file": 30, "folder": 15}


def suite() -> list[Case]:
    """Two hundred cases of all kinds that need little compiling, evenly spread over what the fuzz tries."""
    chosen: list[Case] = []
    for kind, count in PARTS.items():
        quick = [
            case
            for case in cases(0, 2000, (kind,))
            if not case.huge and not any(word in case.code for word in LONG + ABSENT)
        ]
        ready = [case for case in quick if case.expected != RIGHT or case.kind == "file" or "with_loss" in case.code]
        chosen += [ready[i * len(ready) // count] for i in range(count)]
    return chosen
