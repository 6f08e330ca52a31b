"""The table of quantities: every number gradflow reports has one name, one formula, one unit and its dimensions here.

Dimensions: `depth` are the S + 1 positions of the stream (0 is the embedding), `sublayer` the S residual sublayers,
1..S. `factor` are the parts of equation (1) along the backward path, `term` the shares of a fork, `parameter` the
weights of a sublayer, `outer` those outside the stack, `index` counts singular values, `probe` the probe directions, `side` the
direction of a pass.
g_l stands for ∂loss/∂x_l, one array over examples, tokens and features; loss is the mean over all targets of the batch.
"""

from dataclasses import dataclass

# Log-gains of the backward pass, from the output of a sublayer to its input; the first two add up over the stack.
FACTORS = ("norm_out", "fork", "write", "norm_branch", "branch", "norm_in", "read", "gains")
TERMS = ("skip", "branch", "gains", "interference")
# Linear maps of one sublayer: the parts, the term through the branch, skip + branch, the whole.
JACOBIANS = ("norm_in", "branch", "norm_branch", "branch_term", "fork", "norm_out", "sublayer")
PROBES = ("isotropic", "token_common")
SIDES = ("forward", "backward")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the singular values
SCHATTEN = (1, 2, 4)  # p of the Schatten norms
LOG_SIGMA = tuple(round(-4 + 0.1 * i, 1) for i in range(61))  # bins of log10 σ by their centres; the ends take the rest
PLACES = ("stream", "loss", "stream gradient", "parameter gradient")  # where a value can be first not finite
# Coordinates that are the same for every model.
FIXED = {
    "factor": FACTORS,
    "term": TERMS,
    "jacobian": JACOBIANS,
    "probe": PROBES,
    "side": SIDES,
    "quantile": QUANTILES,
    "p": SCHATTEN,
    "log_sigma": LOG_SIGMA,
}


@dataclass(frozen=True)
class Quantity:
    """One row of the table."""

    name: str
    long_name: str
    formula: str
    units: str
    dims: tuple[str, ...] = ()
    positive: bool = True  # averaged over seeds by the geometric mean
    reading: str = "backward"  # what yields it: a name in `instruments.readings.READINGS`


def _estimated(*row, error: str, **options) -> tuple[Quantity, Quantity]:
    """A quantity and its standard error."""
    own = Quantity(*row, **options)
    name, words = f"{own.name}_sem", f"standard error of the {own.long_name}"
    return own, Quantity(name, words, error, own.units, own.dims, False, own.reading)


# Functionals of a spectrum: name, words, formula, unit, dimensions besides sublayer and factor, positive.
_FUNCTIONALS: tuple[tuple[str, str, str, str, tuple[str, ...], bool], ...] = (
    (
        "jacobian_gain",
        "mean-square gain",
        "‖J‖_F²/d = Σ σ_i²/d, d directions between the spaces where J acts",
        "1",
        (),
        True,
    ),
    (
        "log_volume",
        "log-volume",
        "Σ_i log σ_i over the r; log |det J|, which adds up along the stack, where lost_directions is 0",
        "nat",
        (),
        False,
    ),
    ("schatten_norm", "Schatten norm", "(Σ_i σ_i^p)^(1/p); p = 1 nuclear, p = 2 Frobenius", "1", ("p",), True),
    (
        "effective_rank",
        "effective rank",
        "exp(−Σ p_i log p_i), p_i = σ_i/Σσ (Roy and Vetterli 2007, eq. 4)",
        "1",
        (),
        True,
    ),
    (
        "singular_value_quantiles",
        "quantiles of the singular values",
        "σ at that share of the r",
        "1",
        ("quantile",),
        True,
    ),
    ("spectral_density", "spectral density", "share of the r in each bin of log10 σ", "1", ("log_sigma",), False),
    ("largest_singular_value", "largest singular value", "σ_max = ‖J‖₂", "1", (), True),
    (
        "smallest_singular_value",
        "smallest singular value",
        "σ_min of the r; NaN: not converged, or r not known",
        "1",
        (),
        True,
    ),
    ("condition_number", "condition number", "σ_max/σ_min of the r; NaN: not converged, or r not known", "1", (), True),
)


def _spectral() -> tuple[Quantity, ...]:
    """What `spectrum` says of every sublayer and factor J: n entries; d directions between the spaces where it acts, at most.

    r of the d are left: their σ is more than rounding of σ_max in the precision of the stream, √size ε or 8 ε. Where a σ is less
    than 32 times above that, no run in this precision tells r: what depends on it is NaN, or −1.
    """
    place, rows = ("sublayer", "jacobian"), list[Quantity]()
    error = "jackknife over probes, and the change when iterations double, in quadrature; 0: exact"
    for name, words, formula, units, own, positive in _FUNCTIONALS:
        rows += _estimated(name, words, formula, units, (*place, *own), positive, reading="spectrum", error=error)
    return (
        Quantity(
            "singular_values",
            "singular values of one sublayer and its factors",
            "σ_i of the r, descending, then NaN; without those that may be rounding; NaN throughout where it is an estimate",
            "1",
            (*place, "index"),
            reading="spectrum",
        ),
        *rows,
        Quantity(
            "rank_deficit",
            "rank deficit",
            "n − r: what norms take by construction, and σ_i ≤ max(8, √size) ε σ_max, which are rounding; −1: r not known",
            "1",
            place,
            False,
            "spectrum",
        ),
        Quantity(
            "lost_directions",
            "directions lost between two spaces",
            "dimension of the larger of the two spaces between which J acts, minus r; 0: J is one to one; −1: r not known",
            "1",
            place,
            False,
            "spectrum",
        ),
        Quantity("spectrum_probes", "probes behind a spectrum", "0: exact", "1", place, False, "spectrum"),
    )


def _updated(name: str, words: str, formula: str, units: str) -> tuple[Quantity, Quantity]:
    """A quantity of an update, of the parameters in the stack and of those outside."""
    inside = Quantity(name, words, formula, units, ("sublayer", "parameter"), reading="update")
    return inside, Quantity(
        f"outer_{name}", f"{words}, outside the stack", formula, units, ("outer",), reading="update"
    )


_ROWS = (
    Quantity("loss", "loss", "mean over all targets of the batch of −log p(target)", "nat"),
    Quantity("stream_gradient", "stream gradient", "‖∂loss/∂x_l‖", "norm", ("depth",)),
    Quantity("readout_gradient", "gradient at the readout", "‖∂loss/∂(final norm of x_S)‖", "norm"),
    Quantity(
        "stream_gradient_by_token",
        "stream gradient by token",
        "‖∂loss/∂x_l[:, t]‖ over examples and features",
        "norm",
        ("depth", "token"),
    ),
    Quantity(
        "parameter_gradient",
        "parameter gradient",
        "‖E g‖_F, g = ∂loss/∂W, E over the batch",
        "norm",
        ("sublayer", "parameter"),
    ),
    *_estimated(
        "parameter_gradient_per_example",
        "parameter gradient of one example",
        "E‖g‖_F, g = ∂loss/∂W of one example",
        "norm",
        ("sublayer", "parameter"),
        reading="parameter_gradient_per_example",
        error="SD over examples / √examples",
    ),
    *_estimated(
        "gradient_variance",
        "variance of the gradient over examples",
        "tr Σ = (E‖g‖² − ‖E g‖²) B/(B − 1), g of one example, B examples",
        "squared norm",
        ("sublayer", "parameter"),
        reading="parameter_gradient_per_example",
        error="jackknife over examples",
    ),
    *_estimated(
        "gradient_noise_scale",
        "gradient noise scale",
        "tr Σ/(‖E g‖² − tr Σ/B) (McCandlish et al. 2018, eq. 2.9); NaN where noise hides the gradient",
        "examples",
        ("sublayer", "parameter"),
        reading="parameter_gradient_per_example",
        error="jackknife over examples",
    ),
    Quantity("outer_gradient", "gradient of the parameters outside the stack", "‖∂loss/∂W‖_F", "norm", ("outer",)),
    Quantity(
        "budget",
        "backward log-gain",
        "log(‖g at the factor's input‖ / ‖g at its output‖); Σ_l (norm_out + fork) = log(‖g_0‖/‖g_S‖)",
        "nat",
        ("sublayer", "factor"),
        False,
    ),
    Quantity("leave_gain", "backward log-gain of the final norm", "log(‖g_S‖ / ‖g_readout‖)", "nat", (), False),
    Quantity(
        "split",
        "shares of the squared gradient at the fork",
        "‖Aᵀu‖²/‖g‖², ‖(branch)ᵀu‖²/‖g‖², that of the path through gains that read x, and all inner products; they sum to 1",
        "1",
        ("sublayer", "term"),
        False,
    ),
    Quantity("stream_rms", "stream rms", "√mean(x_l²) over examples, tokens, features", "1", ("depth",)),
    Quantity("skip_rms", "skip rms", "√mean((A x)²)", "1", ("sublayer",)),
    Quantity("branch_rms", "branch rms", "√mean((B N_branch F N_in C x)²)", "1", ("sublayer",)),
    Quantity("branch_to_skip", "branch-to-skip ratio", "branch_rms / skip_rms", "1", ("sublayer",)),
    Quantity(
        "token_cosine",
        "token cosine",
        "mean over pairs t ≠ s of ⟨x_t, x_s⟩/(‖x_t‖‖x_s‖), then over examples",
        "1",
        ("depth",),
        False,
    ),
    *_estimated(
        "partial_jacobian",
        "partial Jacobian",
        "E‖(∂x_S/∂x_l)ᵀ v‖²/‖v‖²; v isotropic: ‖∂x_S/∂x_l‖_F²/size; v equal on all tokens: token-common",
        "mean square",
        ("depth", "probe"),
        reading="partial_jacobian",
        error="SD over probes / √probes",
    ),
    *_spectral(),
    Quantity(
        "tangent_growth",
        "growth of the leading tangents",
        "log R_ii of J Q = Q' R; Q the orthonormal tangents below the sublayer",
        "nat",
        ("sublayer", "direction"),
        False,
        "lyapunov",
    ),
    *_estimated(
        "lyapunov_exponent",
        "Lyapunov exponent of depth",
        "mean over sublayers of log R_ii",
        "nat per sublayer",
        ("direction",),
        False,
        reading="lyapunov",
        error="SD of a sublayer's growth about its trend / √S, from differences of neighbours of one kind",
    ),
    Quantity(
        "token_mean_share",
        "token-mean share of a leading tangent",
        "T ‖mean_t q_t‖²/‖q‖²: 1 where it is the same on all tokens, 1/T for a random one",
        "1",
        ("depth", "direction"),
        False,
        "lyapunov",
    ),
    Quantity(
        "cotangent_share",
        "share of the loss's cotangent along a leading tangent",
        "⟨q_i, g_l⟩²/‖g_l‖², first example; 1/n for a random one",
        "1",
        ("depth", "direction"),
        False,
        "alignment",
    ),
    *_estimated(
        "log_singular_values",
        "log of the end-to-end singular values",
        "log σ_i of ∂x_S/∂x_l, descending; NaN where l was not chosen, or below rounding",
        "nat",
        ("depth", "direction"),
        False,
        reading="end_to_end",
        error="change when the iterations double",
    ),
    Quantity(
        "composite_gain",
        "composite gain between lanes",
        "max |log |sum|| of A_S … A_(l+1), A the lanes' skips; forward: row sums, backward: column sums; NaN: one lane",
        "nat",
        ("depth", "side"),
        False,
        "composite_gain",
    ),
    Quantity(
        "expert_load",
        "load of each expert",
        "share of a sublayer's choices that fall on the expert; they sum to 1; NaN: no experts",
        "1",
        ("sublayer", "expert"),
        False,
        "expert_load",
    ),
    Quantity(
        "load_violation",
        "violation of a balanced load",
        "max load / mean load − 1 over experts (Wang et al. 2024 (Loss-Free Balancing), from secondary sources)",
        "1",
        ("sublayer",),
        False,
        "expert_load",
    ),
    Quantity(
        "gate_entropy",
        "entropy of a token's gates",
        "−Σ_e p_e log p_e, p = g/Σg over the chosen experts, mean over tokens; log k where all k weigh the same",
        "nat",
        ("sublayer",),
        False,
        "expert_load",
    ),
    *_estimated(
        "heldout_loss",
        "loss on held-out text",
        "mean over all targets of −log p(target), of text that no batch holds",
        "nat",
        reading="heldout_loss",
        error="SD over examples / √examples",
    ),
    Quantity(
        "loss_sensitivity",
        "sensitivity of the final loss to the recipe",
        "mean over recipes of min(loss, loss at the start), minus the smallest (Wortsman et al. 2023, section 2.3)",
        "nat",
        (),
        False,
        "train",
    ),
    Quantity("learning_rate", "learning rate", "rate of the update that follows", "1", (), False, "train"),
    Quantity(
        "gradient_in_epsilons",
        "gradient in units of Adam's ε",
        "rms of the entries of ∂loss/∂W, divided by the optimizer's eps",
        "eps",
        ("sublayer", "parameter"),
        reading="train",
    ),
    *_updated("update_norm", "size of the update", "‖ΔW‖_F", "norm"),
    *_updated("update_to_weight", "update relative to the weight", "‖ΔW‖_F/‖W‖_F; NaN: W is zero", "1"),
    *_updated("gradient_to_weight", "gradient relative to the weight", "‖E g‖_F/‖W‖_F; NaN: W is zero", "1"),
    *_updated("update_angle", "angle an update turns the weight by", "angle between W and W + ΔW", "rad"),
    Quantity(
        "stream_change",
        "change of the stream by one update",
        "√mean((x_l(W + ΔW) − x_l(W))²)",
        "1",
        ("depth",),
        reading="change",
    ),
    Quantity(
        "output_change",
        "change of the output by one update",
        "√mean((y(W + ΔW) − y(W))²), y = final norm of x_S",
        "1",
        reading="change",
    ),
    Quantity("nonfinite_step", "first training step with a NaN or infinite reading", "−1: never", "step", (), False),
    Quantity(
        "nonfinite_depth",
        "first depth where the stream, or else its gradient, was not finite",
        "forward order for the stream, backward for the gradient; −1: never",
        "stream position",
        (),
        False,
    ),
    Quantity(
        "nonfinite_quantity",
        "which value was not finite first",
        f"{', '.join(f'{i} {what}' for i, what in enumerate(PLACES))}, in the order a step computes them; −1: never",
        "code",
        (),
        False,
    ),
)

QUANTITIES: dict[str, Quantity] = {row.name: row for row in _ROWS}


def row(name: str) -> Quantity | None:
    """The row of a quantity, or that of the standard error of one; None for a name that is not in the table."""
    own = QUANTITIES.get(name.removesuffix("_sem"))
    if name in QUANTITIES or own is None:
        return QUANTITIES.get(name)
    words, formula = f"standard error of the {own.long_name}", "SD over replicas / √replicas"
    return Quantity(name, words, formula, own.units, own.dims, False, own.reading)
