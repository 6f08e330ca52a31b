"""What a sublayer is expected to be: that of a wiring of the catalogue, or what most others of its kind in the program are."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ...model.layers.lanes import Lanes
from ...model.layers.layer import Complement, FeatureGain, Gain, Identity, Layer, ScalarGain
from ...model.layers.norms import ScaledNorm, Squash, Standard
from ...model.wirings.catalogue import Placement, Wiring, placement
from ...model.wirings.placement import wirings_of
from .sublayers import Sublayer

FACTORS = {
    Identity: "1",
    Gain: "number",
    ScalarGain: "trained number",
    FeatureGain: "trained gain",
    Complement: "trained gain",
}
LETTERS = {"number": "α ", "trained number": "a ", "trained gain": "λ ⊙ ", "matrix": "A ", "gate": "g ⊙ "}


class Shape(NamedTuple):
    """Where a sublayer has norms, and what kinds of factors are on its skip and on its branch's output ("?" for any)."""

    norm_in: bool
    norm_branch: bool
    norm_out: bool
    skip: str
    write: str

    @property
    def norms(self) -> list[str]:
        """The places where it has norms."""
        places = {"norm_in": self.norm_in, "norm_branch": self.norm_branch, "norm_out": self.norm_out}
        return [name for name, there in places.items() if there]

    @property
    def equation(self) -> str:
        """The instance of equation (1)."""
        branch = "F(N x)" if self.norm_in else "F x"
        if self.norm_branch:
            branch = f"N({branch})"
        total = f"{LETTERS.get(self.skip, '')}x + {LETTERS.get(self.write, '')}{branch}"
        return f"N({total})" if self.norm_out else total


class Expected(NamedTuple):
    """The shape of every sublayer of a trunk, whether there is a final norm (None: either), and whose shapes these are."""

    shapes: tuple[Shape, ...]
    final_norm: bool | None
    name: str


def shape(of: Sublayer) -> Shape:
    """Returns where a sublayer has norms and factors."""
    skip, write = kind_of_factor(of.skip), kind_of_factor(of.write)
    return Shape(bool(of.norms_in), bool(of.norms_branch), bool(of.norms_out), skip, write)


def kind_of_factor(name: str) -> str:
    """Returns `number` for any number but 1; other names are kinds already."""
    return "number" if name != "1" and name.replace(".", "").replace("-", "").replace("e", "").isdigit() else name


def of_wiring(wiring: Wiring) -> Shape:
    """Returns the shape of a wiring's sublayers."""
    skip, write = FACTORS.get(type(wiring.skip), "?"), FACTORS.get(type(wiring.write), "?")
    return Shape(_is_norm(wiring.norm_in), _is_norm(wiring.norm_branch), _is_norm(wiring.norm_out), skip, write)


def _is_norm(layer: Layer) -> bool:
    return isinstance(layer, Standard | ScaledNorm | Squash)


def has_lanes(expect: Placement) -> bool:
    """Returns whether a placement is one on several lanes."""
    wirings = [wiring for stage in expect.stages for wiring in stage.wirings]
    return any(isinstance(layer, Lanes) for wiring in wirings for layer in (wiring.skip, wiring.read, wiring.write))


def by_wiring(expect: str | Wiring | Placement, count: int) -> Expected:
    """Returns what a wiring or placement expects of so many sublayers, attention and feed-forward taking turns."""
    chosen = placement(expect)
    block = max(len(stage.wirings) for stage in chosen.stages)
    size = block if block > 1 else (2 if count % 2 == 0 else 1)
    shapes: list[Shape] = []
    for stage, blocks in zip(chosen.stages, chosen.counts(max(1, -(-count // size))), strict=True):
        shapes += [of_wiring(wiring) for wiring in wirings_of(stage, size, chosen.name)] * blocks
    last = chosen.stages[-1].wirings[-1]
    return Expected(tuple(shapes[:count]), not isinstance(last.leave, Identity), chosen.name)


def by_majority(sublayers: Sequence[Sublayer]) -> Expected:
    """Returns what most sublayers of each kind are, the first of them where as many are another; of two alone, both."""
    counts: dict[str, Counter] = {}
    for one in sublayers:
        counts.setdefault(one.family, Counter())[shape(one)] += 1
    shapes = []
    for one in sublayers:
        (usual, often), *_ = counts[one.family].most_common(1)
        shapes.append(usual if often > 1 else shape(one))
    return Expected(tuple(shapes), None, "the others of its kind")
