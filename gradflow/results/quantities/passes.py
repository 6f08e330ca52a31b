"""Rows of the quantities of forward and backward passes: losses, gradients, the budget, the signal."""

from .quantity import ARITHMETIC, Error, Quantity, with_error

OF_EXAMPLES = Error("SD over examples / √examples", r"\mathrm{SD}/\sqrt{B}")
_JACKKNIFE = Error(
    "jackknife over examples", r"\sqrt{\frac{B-1}{B}\sum_i \left(\theta_{(i)} - \overline{\theta}\right)^2}"
)

_BACKWARD = (
    Quantity(
        "loss",
        "loss",
        "mean over all targets of the batch of −log p(target)",
        r"\mathcal{L} = -\frac{1}{N}\sum_{i=1}^{N} \log p(y_i)",
        "nat",
        figure="training",
        predicted=True,
    ),
    Quantity(
        "stream_gradient",
        "stream gradient",
        "‖∂loss/∂x_l‖",
        r"\left\|\frac{\partial \mathcal{L}}{\partial x_\ell}\right\|",
        "norm",
        ("depth",),
        predicted=True,
    ),
    Quantity(
        "readout_gradient",
        "gradient at the readout",
        "‖∂loss/∂(final norm of x_S)‖",
        r"\left\|\frac{\partial \mathcal{L}}{\partial y}\right\|, \; y = N_{\mathrm{final}}(x_S)",
        "norm",
        figure=None,
        predicted=True,
    ),
    Quantity(
        "stream_gradient_by_token",
        "stream gradient by token",
        "‖∂loss/∂x_l[:, t]‖ over examples and features",
        r"\left\|\frac{\partial \mathcal{L}}{\partial x_{\ell, t}}\right\|",
        "norm",
        ("depth", "token"),
        predicted=True,
    ),
    Quantity(
        "parameter_gradient",
        "parameter gradient",
        "‖E g‖_F, g = ∂loss/∂W, E over the batch",
        r"\left\|\mathbb{E}\, g\right\|_F, \; g = \frac{\partial \mathcal{L}}{\partial W}",
        "norm",
        ("sublayer", "parameter"),
        predicted=True,
    ),
)

_PER_EXAMPLE = (
    *with_error(
        Quantity(
            "parameter_gradient_per_example",
            "parameter gradient of one example",
            "E‖g‖_F, g = ∂loss/∂W of one example",
            r"\mathbb{E}\left\|g\right\|_F, \; g = \frac{\partial \mathcal{L}_i}{\partial W}",
            "norm",
            ("sublayer", "parameter"),
            reading="parameter_gradient_per_example",
            predicted=True,
        ),
        OF_EXAMPLES,
    ),
    *with_error(
        Quantity(
            "gradient_variance",
            "variance of the gradient over examples",
            "tr Σ = (E‖g‖² − ‖E g‖²) B/(B − 1), g of one example, B examples",
            r"\mathrm{tr}\,\Sigma = \frac{B}{B-1}\left(\mathbb{E}\|g\|^2 - \|\mathbb{E}\, g\|^2\right)",
            "squared norm",
            ("sublayer", "parameter"),
            reading="parameter_gradient_per_example",
        ),
        _JACKKNIFE,
    ),
    *with_error(
        Quantity(
            "gradient_noise_scale",
            "gradient noise scale",
            "tr Σ/(‖E g‖² − tr Σ/B) (McCandlish et al. 2018, eq. 2.9); NaN where noise hides the gradient",
            r"\frac{\mathrm{tr}\,\Sigma}{\|\mathbb{E}\, g\|^2 - \mathrm{tr}\,\Sigma / B}",
            "examples",
            ("sublayer", "parameter"),
            reading="parameter_gradient_per_example",
        ),
        _JACKKNIFE,
    ),
)

_ACCOUNTS = (
    Quantity(
        "outer_gradient",
        "gradient of the parameters outside the stack",
        "‖∂loss/∂W‖_F",
        r"\left\|\frac{\partial \mathcal{L}}{\partial W}\right\|_F",
        "norm",
        ("outer",),
        figure=None,
        predicted=True,
    ),
    Quantity(
        "budget",
        "backward log-gain",
        "log(‖g at the factor's input‖ / ‖g at its output‖); Σ_l (norm_out + fork) = log(‖g_0‖/‖g_S‖)",
        r"b_{\ell, f} = \log\frac{\|g_{\mathrm{in}}\|}{\|g_{\mathrm{out}}\|}, \;"
        r" \sum_\ell (b_{\ell, \mathrm{norm}} + b_{\ell, \mathrm{fork}}) = \log\frac{\|g_0\|}{\|g_S\|}",
        "nat",
        ("sublayer", "factor"),
        ARITHMETIC,
        figure="budget",
        predicted=True,
    ),
    Quantity(
        "leave_gain",
        "backward log-gain of the final norm",
        "log(‖g_S‖ / ‖g_readout‖)",
        r"\log\frac{\|g_S\|}{\|g_{\mathrm{readout}}\|}",
        "nat",
        (),
        ARITHMETIC,
        figure=None,
        predicted=True,
    ),
    Quantity(
        "split",
        "shares of the squared gradient at the fork",
        "‖Aᵀu‖²/‖g‖², ‖(branch)ᵀu‖²/‖g‖², that of the path through gains that read x, and all inner products; they sum to 1",
        r"\frac{\|A^\top u\|^2}{\|g\|^2} + \frac{\|J_{\mathrm{branch}}^\top u\|^2}{\|g\|^2}"
        r" + \frac{\|J_{\mathrm{gains}}^\top u\|^2}{\|g\|^2} + \mathrm{interference} = 1",
        "1",
        ("sublayer", "term"),
        ARITHMETIC,
        predicted=True,
    ),
)

_SIGNAL = (
    Quantity(
        "stream_rms",
        "stream rms",
        "√mean(x_l²) over examples, tokens, features",
        r"\sqrt{\overline{x_\ell^2}}",
        "1",
        ("depth",),
        predicted=True,
    ),
    Quantity("skip_rms", "skip rms", "√mean((A x)²)", r"\sqrt{\overline{(A x)^2}}", "1", ("sublayer",), predicted=True),
    Quantity(
        "branch_rms",
        "branch rms",
        "√mean((B N_branch F N_in C x)²)",
        r"\sqrt{\overline{(B N_{\mathrm{branch}} F N_{\mathrm{in}} C x)^2}}",
        "1",
        ("sublayer",),
        predicted=True,
    ),
    Quantity(
        "branch_to_skip",
        "branch-to-skip ratio",
        "branch_rms / skip_rms",
        r"\sqrt{\overline{(B N_{\mathrm{branch}} F N_{\mathrm{in}} C x)^2} \,/\, \overline{(A x)^2}}",
        "1",
        ("sublayer",),
        predicted=True,
    ),
    Quantity(
        "token_cosine",
        "token cosine",
        "mean over pairs t ≠ s of ⟨x_t, x_s⟩/(‖x_t‖‖x_s‖), then over examples",
        r"\frac{1}{T (T - 1)} \sum_{t \neq s} \frac{\langle x_t, x_s \rangle}{\|x_t\| \|x_s\|}",
        "1",
        ("depth",),
        ARITHMETIC,
        predicted=True,
    ),
)

_HELD_OUT = with_error(
    Quantity(
        "heldout_loss",
        "loss on held-out text",
        "mean over all targets of −log p(target), of text that no batch holds",
        r"-\frac{1}{N} \sum_{i=1}^{N} \log p(y_i)",
        "nat",
        (),
        ARITHMETIC,
        "heldout_loss",
        "outcomes",
    ),
    OF_EXAMPLES,
)

ROWS = (*_BACKWARD, *_PER_EXAMPLE, *_ACCOUNTS, *_SIGNAL, *_HELD_OUT)
