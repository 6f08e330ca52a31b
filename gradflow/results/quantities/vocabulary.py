"""The words of the table: entries of the dimensions that are the same for every model."""

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
ROUNDINGS = ("bfloat16", "float32")  # precisions that are held against float64
# What has an error of rounding: two arrays themselves, and readings of one backward pass.
ARRAYS = ("stream", "gradient")
ROUNDED = (
    *ARRAYS,
    *("stream_rms", "token_cosine", "skip_rms", "branch_rms"),
    *("stream_gradient", "stream_gradient_by_token", "parameter_gradient", "budget", "split"),
)
LOST = (*ARRAYS, "scores", "norm sums", "sum")  # where numbers get too small to count
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
    "precision": ROUNDINGS,
    "rounded": ROUNDED,
    "lost": LOST,
}
