"""What a diagnosis of a program says: its residual sublayers as instances of equation (1), what is wrong, what can't be told.

    report = gf.diagnose(loss_fn, params, batch)
    report.ok, report.findings, str(report)

Plain data: drawn by `gf.plot.trunk`, printed by `gradflow diagnose`.
"""

from dataclasses import dataclass, field
from itertools import groupby, pairwise

from .lines import Line


@dataclass(frozen=True)
class SublayerDiagnosis:
    """A residual sublayer: which instance of equation (1), what its branch is, and where it stands.

    Norms by name, from the input on: `norms_on_path` in front of the skip too, `norms_in` and `norms_branch` at either end of the
    branch, `norms_out` after the sum. `skip` and `write` are what multiplies the skip and the branch's output: 1, a number,
    "trained number", "trained gain", "matrix", "gate".
    """

    depth: int
    line: Line
    kind: str
    norms_on_path: tuple[str, ...] = ()
    norms_in: tuple[str, ...] = ()
    norms_branch: tuple[str, ...] = ()
    norms_out: tuple[str, ...] = ()
    skip: str = "1"
    write: str = "1"
    branches: int = 1
    trunk: int = 0
    note: str = field(default="", compare=False)

    @property
    def equation(self) -> str:
        """The instance of equation (1), such as `x + F(LayerNorm(x))`."""
        stream = _applied(self.norms_on_path, "x")
        letters = ["F"] if self.branches == 1 else [f"F{'₁₂₃₄₅₆₇₈₉'[i % 9]}" for i in range(self.branches)]
        branches = [_applied(self.norms_branch, f"{letter}({_applied(self.norms_in, stream)})") for letter in letters]
        written = " + ".join(f"{_factor(self.write)}{branch}" for branch in branches)
        return _applied(self.norms_out, f"{_factor(self.skip)}{stream} + {written}", brackets=True)


def _applied(norms: tuple[str, ...], inside: str, brackets: bool = False) -> str:
    """Returns norms applied one after the other."""
    for name in norms:
        inside = f"{name}({inside})"
    return inside


FACTORS = {"1": "", "trained number": "a ", "trained gain": "λ ⊙ ", "matrix": "A ", "gate": "g(x) ⊙ ", "?": "? "}


def _factor(name: str) -> str:
    return FACTORS.get(name, f"{name} ")


@dataclass(frozen=True)
class Finding:
    """A mistake, or a difference from what is expected: its names, at which lines, in which sublayers, and the remedy."""

    mistakes: tuple[str, ...]
    text: str
    remedy: str
    lines: tuple[Line, ...]
    depths: tuple[int, ...] = ()
    trunk: int = 0

    def __str__(self) -> str:
        where = ", ".join(dict.fromkeys(map(str, self.lines)))
        of = f" (sublayers {ranges(self.depths)})" if self.depths else ""
        return f"{where}: {self.text}{of}; {self.remedy}"


@dataclass(frozen=True)
class Step:
    """A box of the picture: `kind` is norm (on the path), sublayer or matrix (the readout's); `marked` by a finding about it."""

    kind: str
    text: str
    line: Line
    depths: tuple[int, ...] = ()
    marked: bool = False

    @property
    def looks(self) -> tuple:
        """What two steps that are drawn as one have alike."""
        return self.kind, self.text, self.line, self.marked


@dataclass(frozen=True)
class Diagnosis:
    """The residual sublayers of a program from the bottom up, findings, what can't be told, and the steps of each trunk."""

    sublayers: tuple[SublayerDiagnosis, ...]
    findings: tuple[Finding, ...] = ()
    undecided: tuple[str, ...] = ()
    expected: str | None = None
    steps: tuple[tuple[Step, ...], ...] = ()
    no_trunk: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a trunk, and nothing was found."""
        return not self.findings and not self.no_trunk

    def __str__(self) -> str:
        if self.no_trunk:
            return self.no_trunk
        lines = []
        trunks = sorted({sublayer.trunk for sublayer in self.sublayers})
        for trunk in trunks:
            own = [sublayer for sublayer in self.sublayers if sublayer.trunk == trunk]
            name = f"trunk {trunk + 1}: " if len(trunks) > 1 else ""
            lines.append(f"{name}{len(own)} residual sublayers")
            lines += [f"  {row}" for row in _rows(own)]
        expected = f" that differs from {self.expected}" if self.expected else " wrong"
        lines.append("" if self.findings else f"nothing found{expected}")
        lines += [f"✗ {finding}" for finding in self.findings]
        lines += [f"? {text}" for text in self.undecided]
        return "\n".join(line for line in lines if line)


def _rows(sublayers) -> list[str]:
    """Returns a line for sublayers that follow one another and are alike, with the kinds that take turns."""
    equations: dict[str, list[SublayerDiagnosis]] = {}
    for sublayer in sublayers:
        equations.setdefault(sublayer.equation, []).append(sublayer)
    rows = []
    for equation, alike in equations.items():
        kinds: dict[str, None] = {}
        for sublayer in alike:
            note = f"; {sublayer.note}" if sublayer.note else ""
            kinds[f"{sublayer.line} ({sublayer.kind}{note})"] = None
        numbers = ranges(sublayer.depth for sublayer in alike)
        rows.append(f"sublayers {numbers}: {equation}, {', '.join(kinds)}")
    return rows


@dataclass(frozen=True)
class Repeated:
    """Steps that follow one another `times` over, alike at the same lines."""

    steps: tuple[Step, ...]
    times: int


MOST_STEPS = 16  # of what is looked for as a repetition


def repeated(steps: tuple[Step, ...]) -> list[Repeated]:
    """Returns steps with those that come again as one: the shortest repetition that covers most, from each place on."""
    found = []
    place = 0
    while place < len(steps):
        best, times = 1, 1
        for length in range(1, min(MOST_STEPS, (len(steps) - place) // 2) + 1):
            count = _times(steps[place:], length)
            if count > 1 and count * length > best * times:
                best, times = length, count
        found.append(Repeated(steps[place : place + best], times))
        place += best * times
    return found


def _times(steps: tuple[Step, ...], length: int) -> int:
    """Returns how often the first steps come again at once."""
    unit = [step.looks for step in steps[:length]]
    times = 1
    while [step.looks for step in steps[times * length : (times + 1) * length]] == unit:
        times += 1
    return times


def ranges(numbers) -> str:
    """Returns numbers as ranges, `0–4, 7`, or with a step, `0, 2, …, 10`."""
    numbers = sorted(set(numbers))
    steps = {above - below for below, above in pairwise(numbers)}
    if len(numbers) > 3 and len(steps) == 1 and steps != {1}:
        return f"{numbers[0]}, {numbers[1]}, …, {numbers[-1]}"
    found = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        found.append(str(members[0]) if len(members) == 1 else f"{members[0]}–{members[-1]}")
    return ", ".join(found)
