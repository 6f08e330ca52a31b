"""Gated delta nets: linear attention whose state forgets, and is corrected, token by token.

    S_t = a_t S_{t−1} (I − b_t k_t k_tᵀ) + b_t v_t k_tᵀ,    r_t = S_t q_t        a state S [g, h] a head, 0 before its text
    a = e^{−A softplus(W_a x + s)},  b = σ(W_b x)                                how much is kept, how much is written
    y = W_out [N(r) ⊙ φ_out(W_gate x)]                                            N a norm of each head

(Yang et al. 2025 (Gated Delta Networks), eq. 10 and section 3.4.) Queries, keys and values are φ of a short causal convolution
of linear maps of x; a head's query and key have length 1, the query another 1/√h. What is here agrees with an independent
library, see the tests: qwen3_next and qwen4_exp in transformers.

Axes: x is [T, d]; H heads of values with g features, K of queries and keys with h.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...results.arguments import known, whole
from ...results.configuration import registered
from ...results.fields import whole_fields
from ..inputs.context import place_in_text
from ..layers.functional import ACTIVATIONS
from ..layers.layer import PAST, Layer
from ..layers.norms import RMSNorm
from ..numerics.precision import in_float32
from ..parameters.initializers import FanIn, Initialization
from ..parameters.keys import at
from .branch import Branch
from .convolution import convolved, kernel

MIXED = ("query", "key", "value")  # what the convolution acts on


@registered
@dataclass(frozen=True)
class GatedDeltaNet(Branch):
    """A gated delta net: see above. `heads` of values share `key_heads` of queries and keys, as many by default.

    `head` and `value_head` are the features h and g of a head, `taps` those of the convolution's kernel. A text begins with a
    state of zeros, whatever lies in front of it. At the start A is uniform in (0.01, 16), s = 1.

    Cost: O(T H g h), the tokens one after the other; backward every token's state is kept, T H g h numbers.
    """

    heads: int = 4
    key_heads: int | None = None
    head: int = 16
    value_head: int = 16
    taps: int = 4
    activation: str = "silu"
    gate_activation: str = "silu"
    weights: Initialization = FanIn()
    bias: bool | tuple[str, ...] = False
    read_norm: Layer = RMSNorm()

    couples: ClassVar[str] = PAST
    asks: ClassVar[tuple[str, ...]] = ("texts",)

    def __post_init__(self):
        whole_fields(self, "heads", "head", "value_head", "taps")
        known("activation", self.activation, ACTIVATIONS)
        known("activation", self.gate_activation, GATES)
        if self.heads % whole("key_heads", self.queries):
            raise ValueError(f"key_heads = {self.queries} must divide heads = {self.heads}")

    @property
    def queries(self) -> int:
        """How many heads of queries and keys there are."""
        return self.heads if self.key_heads is None else self.key_heads

    def matrix_shapes(self, width: int):
        """Returns the matrices of queries, keys, values and the gate, `keep` and `write` with one number a head, and `out`."""
        of_keys, of_values = self.queries * self.head, self.heads * self.value_head
        return {
            "query": (width, of_keys),
            "key": (width, of_keys),
            "value": (width, of_values),
            "gate": (width, of_values),
            "keep": (width, self.heads),
            "write": (width, self.heads),
            "out": (of_values, width),
        }

    def inner_widths(self, width: int):
        """Returns the norm on what each head has read."""
        return {"read_norm": self.value_head}

    def init(self, key, width: int):
        """Returns the parameters of a branch, `{"convolution": {query, key, value: [K, 1, …]}, "log_rate": [H], "step": [H]}`."""
        shapes = self.matrix_shapes(width)
        kernels = {name: kernel(at(key, "convolution", name), self.taps, shapes[name][1]) for name in MIXED}
        rate = jax.random.uniform(at(key, "log_rate"), (self.heads,), jnp.float32, 0.01, 16.0)
        own = {"convolution": kernels, "log_rate": jnp.log(rate), "step": jnp.ones(self.heads, jnp.float32)}
        return {**super().init(key, width), **own}

    def mixed(self, params, name: str, x, place):
        """Returns queries, keys or values [T, H, …], of all heads of values."""
        features = convolved(params[name](x), params["convolution"][name], place)
        groups = self.heads if name == "value" else self.queries
        by_head = ACTIVATIONS[self.activation](features).reshape(len(x), groups, -1)
        return jnp.repeat(in_float32(by_head), self.heads // groups, axis=1)

    def kept(self, params, x, place):
        """Returns the share a of its state that each head keeps at each token [T, H]; at the first of a text nothing."""
        rate = jnp.exp(in_float32(params["log_rate"]))[None]
        step = jax.nn.softplus(in_float32(params["keep"](x)) + in_float32(params["step"])[None])
        return jnp.where((place == 0)[:, None], 0, jnp.exp(-rate * step))

    def __call__(self, params, x):
        """Returns the branch's output [T, d]."""
        place = place_in_text(len(x), params.get("texts"))
        q, k, v = (self.mixed(params, name, x, place) for name in MIXED)
        written = jax.nn.sigmoid(in_float32(params["write"](x)))
        read = delta_rule(unit(q) * self.head**-0.5, unit(k), v, self.kept(params, x, place), written)
        gate = GATES[self.gate_activation](params["gate"](x))
        normed = self.at("read_norm", params, read.astype(x.dtype))
        return params["out"](normed.reshape(gate.shape) * gate)


GATES = {"silu": jax.nn.silu, "sigmoid": jax.nn.sigmoid}


def unit(x):
    """Returns every head's features divided by their length, √(Σ x² + 1e-6)."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-6)


def delta_rule(q, k, v, kept, written):
    """Returns what each token reads, `r_t` [T, H, g].

    Of queries and keys [T, H, h], values [T, H, g], and the shares that are kept and written, a and b [T, H].
    """

    def step(state, token):
        q, k, v, kept, written = token
        state = kept[:, None, None] * state
        missing = v - jnp.einsum("hgf,hf->hg", state, k)
        state = state + jnp.einsum("hg,hf->hgf", written[:, None] * missing, k)
        return state, jnp.einsum("hgf,hf->hg", state, q)

    _, heads, features = v.shape
    empty = jnp.zeros((heads, features, k.shape[-1]), v.dtype)
    return jax.lax.scan(step, empty, (q, k, v, kept, written))[1]
