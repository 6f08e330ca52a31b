"""Laws: one-line descriptions of a profile, fitted in logs, with intervals over seeds, and the choice between them.

    constant     y = a                     a gradient that is kept
    power        y = a (1 + l/l₀)^k        a pre-norm stack with independent branches of equal variance: k = −ζ/2
    exponential  y = a e^{k l}             a chain of equal gains
    stretched    y = a e^{k √l}            saturating branches without a norm (DyT, erf): partial Jacobian e^{√(l/λ)}
    monomial     y = a l^k                 against the total depth, which is never 0

The stretched exponential of Doshi, He and Gromov 2023 (and Alekseev 2026 for DyT and Derf) has the exponent ½, and so has
ours: a free exponent β in e^{k l^β} runs from the power law (β → 0) to the exponential (β → 1), and at the depths of
networks it imitates both so well that β and k could not be told apart. λ is 1/k². It is an asymptotic law; an embedding
that saturates the branches already shifts l, which is not fitted.

A law is fitted to each seed by least squares on log y; an estimate is the mean over seeds with its 95% t-interval.
A single seed has an estimate and no interval: residuals over depth are not independent, and an interval made of them
covers the truth half as often as it says.

Bottom up: law, fitting, choice.
"""

from .choice import choose, to_text
from .fitting import NoFit, curve, fit, sentence
from .law import OVER_DEPTH, OVER_TOTAL_DEPTH, Law, constant, exponential, monomial, power, stretched
