"""The laws themselves: `log y` as a function of the position, with the range of each number, and how a law is written."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Law:
    """A law `log y = curve(l, log a, k, …)`, with the names of its numbers, a start for the fit, and the formats of its text.

    `words` may hold `{x}` (the position), `{k}` (with its interval, where there is one) and `{l0}`.
    """

    name: str
    formula: str
    words: str
    names: tuple[str, ...]
    curve: Callable
    bounds: tuple[tuple[float, ...], tuple[float, ...]]
    start: tuple[float, ...]


_ANY = np.inf


def _constant(l, log_a):
    return log_a + 0 * l


def _exponential(l, log_a, k):
    return log_a + k * l


def _stretched(l, log_a, k):
    return log_a + k * np.sqrt(l)


def _monomial(l, log_a, k):
    return log_a + k * np.log(l)


def _power(l, log_a, k, log_l0):
    return log_a + k * np.log1p(l * np.exp(-log_l0))


_LINE = ((-_ANY, -_ANY), (_ANY, _ANY))  # bounds of log a and k

constant = Law("constant", "a", "constant", ("log_a",), _constant, ((-_ANY,), (_ANY,)), (0.0,))
exponential = Law("exponential", "a exp(k l)", "e^(({k}) {x})", ("log_a", "k"), _exponential, _LINE, (0.0, 0.0))
stretched = Law("stretched", "a exp(k l^0.5)", "exp(({k}) {x}^0.5)", ("log_a", "k"), _stretched, _LINE, (0.0, 0.0))
monomial = Law("monomial", "a l^k", "{x}^({k})", ("log_a", "k"), _monomial, _LINE, (0.0, 0.0))
power = Law(
    "power",
    "a (1 + l/l0)^k",
    "(1 + {x}/{l0})^({k})",
    ("log_a", "k", "log_l0"),
    _power,
    ((-_ANY, -_ANY, np.log(1e-2)), (_ANY, _ANY, np.log(1e3))),
    (0.0, -0.5, np.log(2.0)),
)

OVER_DEPTH = (constant, exponential, stretched, power)
OVER_TOTAL_DEPTH = (constant, monomial, exponential)
