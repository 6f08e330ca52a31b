"""Experts: many feed-forward networks, of which a router chooses a few for each token, beside one that every token goes through.

    y_t = f_shared(x_t) + Σ_e g_te f_e(x_t),     g_te = scale · s_te / Σ_{chosen e'} s_te' where e is chosen, else 0
    s_te = sigmoid(⟨w_e, x_t⟩);   chosen: the largest s_te + b_e, in the groups whose two largest sum to most

(DeepSeek-AI 2024 (DeepSeek-V3), section 2.1.2; the scale is only in deepseek-ai/DeepSeek-V3, inference/model.py, `Gate`.
What is here agrees with an independent library, see the tests.) Of a router by softmax, g is that of ⟨w_e, x_t⟩. The choice is
piecewise constant: gradients go through g and f, not through what was chosen, and b_e, which balances the load, has none at
all. DeepSeek moves it by the load of each expert, a rule that is not here.

Axes: x is [T, d]; E experts, k of them active, G groups.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...results.arguments import known
from ...results.configuration import registered
from ..inputs.context import TOKENS
from ..layers.functional import largest
from ..layers.layer import Identity, Layer
from ..numerics.precision import in_float32
from ..parameters.initializers import FanIn, Initialization
from ..parameters.keys import at
from .branch import Branch, GatedFeedForward, linear


@dataclass(frozen=True)
class Router(ABC):
    """Which of `experts` a token goes to, and how much: the `active` largest, from the best `active_groups` of `groups`.

    A group is as good as its `votes` best experts together.
    """

    votes: ClassVar[int]

    experts: int = 8
    active: int = 2
    groups: int = 1
    active_groups: int = 1
    scale: float = 1.0

    def __post_init__(self):
        if not 1 <= self.active_groups <= self.groups or self.experts % max(1, self.groups):
            raise ValueError(
                f"{self.active_groups} of {self.groups} groups of {self.experts} experts: groups must divide the experts"
            )
        if not 1 <= self.active <= self.experts // self.groups * self.active_groups:
            raise ValueError(
                f"active is {self.active}: {self.active_groups} of {self.groups} groups hold "
                f"{self.experts // self.groups * self.active_groups} of {self.experts} experts"
            )

    def init(self, key) -> dict[str, Any]:
        """Returns what it has beside its matrix, by name; nothing, unless a router says so."""
        return {}

    @abstractmethod
    def __call__(self, logits: Float[Array, "token expert"], params: Mapping) -> Float[Array, "token expert"]:
        """Returns the weights g [T, E], zero where an expert is not chosen."""

    def chosen(self, preference):
        """1 where an expert is chosen, else 0, [T, E]."""
        if self.active_groups < self.groups:
            grouped = preference.reshape(len(preference), self.groups, -1)
            best = jax.lax.top_k(grouped, min(self.votes, grouped.shape[-1]))[0].sum(-1)
            open_groups = largest(best, self.active_groups)[..., None] > 0
            preference = jnp.where(open_groups, grouped, -jnp.inf).reshape(preference.shape)
        return largest(preference, self.active)


@registered
@dataclass(frozen=True)
class SigmoidRouter(Router):
    """DeepSeek-V3's: sigmoids of the logits, chosen by these plus a balance, of those chosen normalized to `scale`."""

    votes: ClassVar[int] = 2

    def init(self, key) -> dict[str, Any]:
        """Returns `{"balance": b [E]}`, 0 at the start."""
        return {"balance": jnp.zeros(self.experts, jnp.float32)}

    def __call__(self, logits: Float[Array, "token expert"], params: Mapping) -> Float[Array, "token expert"]:
        """Returns the weights g [T, E], zero where an expert is not chosen."""
        scores = self.scores(logits)
        chosen = scores * jax.lax.stop_gradient(self.choice(scores, params))
        return self.scale * chosen / (chosen.sum(-1, keepdims=True) + 1e-20)

    def scores(self, logits):
        """Returns s [T, E]."""
        return jax.nn.sigmoid(logits)

    def choice(self, scores, params: Mapping):
        """Returns how often an expert is chosen [T, E]."""
        return self.chosen(scores + params["balance"][None])


@registered
@dataclass(frozen=True)
class SoftplusRouter(SigmoidRouter):
    """DeepSeek-V4's: `√ln(1 + e^u)` in the place of the sigmoid (DeepSeek-AI 2026 (DeepSeek-V4), as in transformers)."""

    def scores(self, logits):
        """Returns s [T, E]."""
        return jnp.sqrt(jax.nn.softplus(logits))


@registered
@dataclass(frozen=True)
class HashRouter(SoftplusRouter):
    """DeepSeek-V4's at the bottom: a table says which experts a token of the `vocabulary` has, wherever it stands.

    How much of each is `SoftplusRouter`'s (DeepSeek-AI 2026 (DeepSeek-V4), section 2.1; Roller et al. 2021, Hash Layers). The
    table has numbers of choices [vocabulary, E], random at the start, and no gradient.
    """

    vocabulary: int = 256

    def init(self, key) -> dict[str, Any]:
        """Returns `{"table": [vocabulary, E]}`, as many ones a row as experts are active."""
        drawn = jax.random.uniform(at(key, "table"), (self.vocabulary, self.experts), jnp.float32)
        return {"table": largest(drawn, self.active)}

    def choice(self, scores, params: Mapping):
        """Returns how often an expert is chosen [T, E]."""
        if TOKENS not in params:
            raise ValueError("HashRouter chooses by tokens, which a Transformer gives its branches: here are none")
        return params["table"][params[TOKENS]]


@registered
@dataclass(frozen=True)
class SoftmaxRouter(Router):
    """`scale` times a softmax of the logits `among` the "chosen" (Jiang et al. 2024, Mixtral), or all, zero elsewhere.

    Among "all" the weights of a token sum to less than the scale (DeepSeek-AI 2024 (DeepSeek-V2), section 2.2).
    """

    votes: ClassVar[int] = 1
    among: str = "chosen"

    def __post_init__(self):
        super().__post_init__()
        known("among", self.among, ("chosen", "all"))

    def __call__(self, logits: Float[Array, "token expert"], params: Mapping) -> Float[Array, "token expert"]:
        """Returns the weights g [T, E], zero where an expert is not chosen."""
        chosen = self.chosen(jax.lax.stop_gradient(logits))
        if self.among == "chosen":
            return self.scale * jax.nn.softmax(jnp.where(chosen > 0, logits, -jnp.inf), axis=-1)
        return self.scale * jax.nn.softmax(logits, axis=-1) * chosen


MATRICES = ("router", "gate", "up", "down")


@registered
@dataclass(frozen=True)
class Experts(Branch):
    """Gated feed-forward networks behind a router, `shared` of them for every token, as one that is so much wider.

    Each expert has the hidden width `ratio · d`; `inner`, `on_gate` and `on_up` act in it (`GatedFeedForward`). `MATRICES` are
    those that may have a bias, the router's among them. All E experts are computed for all tokens, and those not chosen
    multiplied by zero: E/k times the operations of a sparse one, and exact gradients in every transformation.
    """

    router: Router = SigmoidRouter()
    shared: int = 1
    ratio: float = 2 / 3
    activation: str = "silu"
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    inner: Layer = Identity()
    on_gate: Layer = Identity()
    on_up: Layer = Identity()

    asks: ClassVar[tuple[str, ...]] = (TOKENS,)

    @property
    def couples(self) -> str:
        """The features of a token, or what a layer inside couples, if that is more."""
        return self.expert().couples

    def expert(self, times: int = 1) -> GatedFeedForward:
        """Returns one expert, `times` as wide."""
        inside = {"inner": self.inner, "on_gate": self.on_gate, "on_up": self.on_up}
        own = tuple(name for name in self.with_bias(MATRICES) if name != "router")
        return GatedFeedForward(times * self.ratio, self.activation, self.weights, own, **inside)

    def always(self) -> GatedFeedForward:
        """Returns what every token goes through, where some are shared."""
        return self.expert(self.shared)

    def init(self, key, width: int):
        """Returns `{"router": Linear, [what the router has,] "routed": experts stacked [E, …], ["shared": one]}`."""
        keys = jax.vmap(lambda e: at(key, "routed", e))(jnp.arange(self.router.experts))
        shared = {"shared": self.always().init(at(key, "shared"), width)} if self.shared else {}
        has_bias = "router" in self.with_bias(MATRICES)
        return {
            "router": linear(key, self.weights, "router", width, self.router.experts, width, has_bias),
            **self.router.init(key),
            "routed": jax.vmap(lambda k: self.expert().init(k, width))(keys),
            **shared,
        }

    def gates(self, params, x) -> Float[Array, "token expert"]:
        """Returns the weights g of every expert, in float32 or better."""
        logits = params["router"](x)
        return self.router(in_float32(logits), params)

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        each = jax.vmap(self.expert(), (0, None))(params["routed"], x)  # [E, T, d]
        routed = jnp.einsum("te,etd->td", self.gates(params, x).astype(x.dtype), each)
        return routed + self.of_all(params, x) if self.shared else routed

    def of_all(self, params, x):
        """Returns what the shared experts put out [T, d]."""
        return self.always()(params["shared"], x)
