"""Appended lanes: a history of what sublayers or blocks put out, each in a lane of its own, and maps that read it.

The stream has as many lanes as its top needs; those not yet written are zero, and nothing comes down to them (`Kept`), so that
at every depth its gradient is that of what is there. A read weighs the lanes: by numbers, trained or not, or by numbers that
read the lanes themselves, token by token (`depth_attention`). With `skip` that keeps, `write` that appends and `read` that
weighs, equation (1) is

    x'_l = F(N_in(Σ_{i<l} α_i x_i)),    x'_i = x_i for i < l

Axes: x is [lanes, tokens, features]; n lanes, of which `count` have been written. Cost: n times the memory of one lane.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from ...results.configuration import registered
from ..equation.sublayer import OfStream
from .lanes import ROUTES
from .layer import FEATURES, Untrained

Count = Any  # of lanes, or the number of one: whole, or one that depends on depth or block


class BetweenLanes(Untrained):
    """A matrix on the lane axis whose numbers depend on the block; `route` as of `Lanes`."""

    route: ClassVar[str]
    couples: ClassVar[str] = FEATURES

    def numbers(self, params, lanes: int, dtype):
        """Returns the matrix [lanes, lanes], or the numbers [lanes] of a gather or a spread."""
        raise NotImplementedError

    def __call__(self, params, x):
        """Returns the lanes after it."""
        return jnp.einsum(ROUTES[self.route], self.numbers(params, len(x), x.dtype), x)

    def output_normals(self, params, y, inherited):
        """Returns none: they are not followed between lanes."""
        return jnp.zeros((y.shape[-2], y.size // y.shape[-2], 1), y.dtype)


def below(count, lanes: int, dtype):
    """Returns 1 for the lanes 0 … count − 1, else 0 [lanes]."""
    return (jnp.arange(lanes) < count).astype(dtype)


def at_lane(lane, lanes: int, dtype):
    """Returns 1 for one lane, else 0 [lanes]."""
    return (jnp.arange(lanes) == lane).astype(dtype)


@registered
@dataclass(frozen=True)
class PickLane(BetweenLanes):
    """`x_lane`: one lane alone."""

    lane: Count
    route: ClassVar[str] = "gather"

    def numbers(self, params, lanes: int, dtype):
        """Returns 1 for the lane."""
        return at_lane(self.lane, lanes, dtype)


@registered
@dataclass(frozen=True)
class Together(BetweenLanes):
    """`x_i + x_j + …`: the sum of the lanes of `places`."""

    places: tuple[Count, ...]
    route: ClassVar[str] = "gather"

    def numbers(self, params, lanes: int, dtype):
        """Returns 1 for each of the lanes."""
        return jnp.stack([at_lane(place, lanes, dtype) for place in self.places]).sum(0)


@registered
@dataclass(frozen=True)
class Kept(BetweenLanes):
    """The first `count` lanes as they are, zero in the place of the others: what has not been written yet."""

    count: Count
    route: ClassVar[str] = "mix"

    def numbers(self, params, lanes: int, dtype):
        """Returns 1 on the diagonal for the first lanes."""
        return jnp.diag(below(self.count, lanes, dtype))


@registered
@dataclass(frozen=True)
class Appended(BetweenLanes):
    """From one to `lanes`: to those of `places`, once each, zero elsewhere."""

    lanes: Count
    places: tuple[Count, ...]
    route: ClassVar[str] = "spread"

    def numbers(self, params, lanes: int, dtype):
        """Returns 1 for the lanes of `places`."""
        chosen = [at_lane(place, self.lanes, dtype) for place in self.places]
        return jnp.max(jnp.stack(chosen), axis=0)


@registered
@dataclass(frozen=True)
class Weighed(BetweenLanes):
    """`Σ_{i<count} a_i x_i`, a trained, of which the last is 1 at the start and the others 0."""

    lanes: Count
    count: Count
    route: ClassVar[str] = "gather"

    def init(self, key, width: int):
        """Returns `{"weights": [lanes]}`; those of lanes not yet written are never used."""
        return {"weights": at_lane(self.count - 1, self.lanes, jnp.float32)}

    def numbers(self, params, lanes: int, dtype):
        """Returns the weights of the lanes that are there."""
        return params["weights"].astype(dtype) * below(self.count, lanes, dtype)


@registered
@dataclass(frozen=True)
class Joined(BetweenLanes):
    """`x_0 + a x_lane`, a one trained number, `value` at the start; `x_0` alone where the lane is 0."""

    lane: Count
    value: float = 1.0
    route: ClassVar[str] = "gather"

    def init(self, key, width: int):
        """Returns `{"gain": []}`."""
        return {"gain": jnp.asarray(self.value, jnp.float32)}

    def numbers(self, params, lanes: int, dtype):
        """Returns 1 for the first lane and a for the other."""
        other = at_lane(self.lane, lanes, dtype) * jnp.asarray(self.lane > 0, dtype)
        return jnp.stack([at_lane(0, lanes, dtype), params["gain"].astype(dtype) * other]).sum(0)


@registered
@dataclass(frozen=True)
class Replaced(Untrained):
    """The first `count` lanes as they are, and what `reads` reads of them at `place`: it is the part `read`, which trains it."""

    reads: Any
    place: Count
    count: Count
    route: ClassVar[str] = "mix"
    couples: ClassVar[str] = FEATURES

    def params_from(self, part: str) -> str:
        """Returns the part whose parameters it uses."""
        return "read"

    def bound(self, params):
        """Returns a part, or, where the read depends on the stream, the gain that waits for it."""
        waits = isinstance(self.reads.bound(params), OfStream)
        return OfStream(self, params) if waits else super().bound(params)

    def row_at_place(self, kept, new):
        """Returns a matrix, or whatever has lanes first, with `new` in the row of the place."""
        here = at_lane(self.place, len(kept), kept.dtype)
        here = here.reshape(-1, *[1] * (kept.ndim - 1))
        return jnp.where(here > 0, new[None], kept)

    def __call__(self, params, x):
        """Returns the lanes after it."""
        return self.around(self.reads(params, x), x)

    def at_stream(self, params, x):
        """Returns the part for the stream `x`."""
        read = self.reads.at_stream(params, x)

        def part(u):
            return self.around(read(u), u)

        return part

    def around(self, new, x):
        """Returns the lanes that are kept, and the new one at its place."""
        kept = jnp.einsum("i,i...->i...", below(self.count, len(x), x.dtype), x)
        return self.row_at_place(kept, new)

    def output_normals(self, params, y, inherited):
        """Returns none: they are not followed between lanes."""
        return jnp.zeros((y.shape[-2], y.size // y.shape[-2], 1), y.dtype)
