"""Rows of quantities that only a training has: updates and what they change, recipes, norms that another tool logged, the first
value that is not finite.
"""

from .quantity import ARITHMETIC, Quantity
from .vocabulary import PLACES


def _of_weights(
    name: str, words: str, formula: str, latex: str, units: str, reading: str = "update"
) -> tuple[Quantity, Quantity]:
    """Returns a quantity of the parameters in the stack, and the same quantity of those outside."""
    inside = Quantity(name, words, formula, latex, units, ("sublayer", "parameter"), reading=reading)
    outside = f"{words}, outside the stack"
    return inside, Quantity(f"outer_{name}", outside, formula, latex, units, ("outer",), reading=reading, figure=None)


_RECIPES = (
    Quantity(
        "loss_sensitivity",
        "sensitivity of the final loss to the recipe",
        "mean over recipes of min(loss, loss at the start), minus the smallest (Wortsman et al. 2023, section 2.3)",
        r"\frac{1}{R} \sum_{r=1}^{R} \mathcal{L}_r - \min_r \mathcal{L}_r, \;"
        r" \mathcal{L}_r = \min(\mathcal{L}_r^{\mathrm{end}}, \mathcal{L}_r^{\mathrm{start}})",
        "nat",
        (),
        ARITHMETIC,
        "sensitivity",
        None,
    ),
    Quantity(
        "learning_rate", "learning rate", "rate of the update that follows", r"\eta", "1", (), ARITHMETIC, "train", None
    ),
    Quantity(
        "gradient_in_epsilons",
        "gradient in units of Adam's ε",
        "rms of the entries of ∂loss/∂W, divided by the optimizer's eps",
        r"\frac{1}{\epsilon} \sqrt{\overline{(\partial \mathcal{L} / \partial W)^2}}",
        "eps",
        ("sublayer", "parameter"),
        reading="train",
    ),
)

_UPDATES = (
    *_of_weights("update_norm", "size of the update", "‖ΔW‖_F", r"\|\Delta W\|_F", "norm"),
    *_of_weights(
        "update_to_weight",
        "update relative to the weight",
        "‖ΔW‖_F/‖W‖_F; NaN: W is zero",
        r"\frac{\|\Delta W\|_F}{\|W\|_F}",
        "1",
    ),
    *_of_weights(
        "gradient_to_weight",
        "gradient relative to the weight",
        "‖E g‖_F/‖W‖_F; NaN: W is zero",
        r"\frac{\|\mathbb{E}\, g\|_F}{\|W\|_F}",
        "1",
        "record",
    ),
    *_of_weights(
        "update_angle",
        "angle an update turns the weight by",
        "angle between W and W + ΔW",
        r"\arccos\frac{\langle W, W + \Delta W \rangle}{\|W\|_F \|W + \Delta W\|_F}",
        "rad",
    ),
    Quantity(
        "stream_change",
        "change of the stream by one update",
        "√mean((x_l(W + ΔW) − x_l(W))²)",
        r"\sqrt{\overline{(x_\ell(W + \Delta W) - x_\ell(W))^2}}",
        "1",
        ("depth",),
        reading="change",
    ),
    Quantity(
        "output_change",
        "change of the output by one update",
        "√mean((y(W + ΔW) − y(W))²), y = final norm of x_S",
        r"\sqrt{\overline{(y(W + \Delta W) - y(W))^2}}, \; y = N_{\mathrm{final}}(x_S)",
        "1",
        reading="change",
        figure="amplification",
    ),
)

_LOGGED = (
    Quantity(
        "layer_gradient",
        "layer gradient",
        "√Σ‖∂loss/∂W‖² over all W of the layer",
        r"\sqrt{\sum_{W \in \ell} \left\|\frac{\partial \mathcal{L}}{\partial W}\right\|_F^2}",
        "norm",
        ("sublayer",),
        reading="logged",
    ),
)

_NONFINITE = (
    Quantity(
        "nonfinite_step",
        "first training step with a NaN or infinite reading",
        "−1: never",
        r"\min\{i : v_i \notin \mathbb{R}\}",
        "step",
        (),
        ARITHMETIC,
        "train",
        None,
    ),
    Quantity(
        "nonfinite_depth",
        "first depth where the stream, or else its gradient, was not finite",
        "forward order for the stream, backward for the gradient; −1: never",
        r"\min\{\ell : x_\ell \notin \mathbb{R}\} \;\mathrm{or}\; \max\{\ell : g_\ell \notin \mathbb{R}\}",
        "stream position",
        (),
        ARITHMETIC,
        "train",
        None,
    ),
    Quantity(
        "nonfinite_quantity",
        "which value was not finite first",
        f"{', '.join(f'{i} {what}' for i, what in enumerate(PLACES))}, in the order a step computes them; −1: never",
        r"\min\{k : v_k \notin \mathbb{R}\}",
        "code",
        (),
        ARITHMETIC,
        "train",
        None,
    ),
)

ROWS = (*_RECIPES, *_UPDATES, *_LOGGED, *_NONFINITE)
