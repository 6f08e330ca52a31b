"""The table of quantities: every number gradflow reports has one name, one formula, one unit and its dimensions here.

Dimensions: `depth` are the S + 1 positions of the stream (0 is the embedding), `sublayer` the S residual sublayers,
1..S. `factor` are the parts of equation (1) along the backward path, `term` the shares of a fork, `parameter` the
weights of a sublayer, `outer` those outside the stack, `index` counts singular values, `probe` the probe directions.
g_l stands for ∂loss/∂x_l, one array over examples, tokens and features; loss is the mean over tokens and examples.
"""

from dataclasses import dataclass

# Log-gains of the backward pass, from the output of a sublayer to its input; the first two add up over the stack.
FACTORS = ("norm_out", "fork", "write", "norm_branch", "branch", "norm_in", "read")
TERMS = ("skip", "branch", "interference")
# Linear maps of one sublayer: the parts, the term through the branch, skip + branch, the whole.
JACOBIANS = ("norm_in", "branch", "norm_branch", "branch_term", "fork", "norm_out", "sublayer")
PROBES = ("isotropic", "token_common")


@dataclass(frozen=True)
class Quantity:
    """One row of the table."""

    name: str
    long_name: str
    formula: str
    units: str
    dims: tuple[str, ...] = ()
    positive: bool = True  # averaged over seeds by the geometric mean


_ROWS = (
    Quantity("loss", "loss", "mean over tokens and examples of −log p(target)", "nat"),
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
    Quantity(
        "parameter_gradient_per_example",
        "parameter gradient of one example",
        "E‖g‖_F, g = ∂loss/∂W of one example",
        "norm",
        ("sublayer", "parameter"),
    ),
    Quantity(
        "parameter_gradient_per_example_sem",
        "standard error of the parameter gradient of one example",
        "SD over examples / √examples",
        "norm",
        ("sublayer", "parameter"),
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
        "‖Aᵀu‖²/‖g‖², ‖(branch)ᵀu‖²/‖g‖², and twice their inner product; they sum to 1",
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
    Quantity(
        "partial_jacobian",
        "partial Jacobian",
        "E‖(∂x_S/∂x_l)ᵀ v‖²/‖v‖²; v isotropic: ‖∂x_S/∂x_l‖_F²/size; v equal on all tokens: token-common",
        "mean square",
        ("depth", "probe"),
    ),
    Quantity(
        "partial_jacobian_sem",
        "standard error of the partial Jacobian",
        "SD over probes / √probes",
        "mean square",
        ("depth", "probe"),
    ),
    Quantity(
        "singular_values",
        "singular values of one sublayer and its factors",
        "σ_i of the dense [T·d, T·d] Jacobian, descending; first example of the batch",
        "1",
        ("sublayer", "jacobian", "index"),
    ),
    Quantity("jacobian_gain", "mean-square gain", "‖J‖_F²/(T·d)", "1", ("sublayer", "jacobian")),
    Quantity(
        "rank_deficit",
        "rank deficit",
        "number of singular values below 1e-4 · σ_max",
        "1",
        ("sublayer", "jacobian"),
        False,
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
)

QUANTITIES: dict[str, Quantity] = {row.name: row for row in _ROWS}
