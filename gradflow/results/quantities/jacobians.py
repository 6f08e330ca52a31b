"""Rows of Jacobian quantities: the spectra of sublayers and their factors, and the chain of them end to end.

Of every sublayer and factor J: n entries; d directions between the spaces where it acts, at most. r of the d are left: their σ is
more than rounding of σ_max in the precision of the stream, √size ε or 8 ε. Where a σ is less than 32 times above that, no run in
this precision tells r: what depends on it is NaN, or −1.
"""

from .quantity import ARITHMETIC, GEOMETRIC, Error, Mean, Quantity, with_error

_PLACE = ("sublayer", "jacobian")
_OF_SPECTRA = Error(
    "jackknife over probes, and the change when iterations double, in quadrature; 0: exact",
    r"\sqrt{\mathrm{SE}_{\mathrm{jackknife}}^2 + (\theta_{2m} - \theta_m)^2}",
)
_OF_PROBES = Error("SD over probes / √probes", r"\mathrm{SD}/\sqrt{m}")
_OF_GROWTH = Error(
    "SD of a sublayer's growth about its trend / √S, from differences of neighbours of one kind",
    r"\frac{1}{\sqrt{S}} \sqrt{\frac{1}{2} \overline{(\Delta_\ell \log R_{ii})^2}}",
)
_OF_ITERATIONS = Error("change when the iterations double", r"\left|\log\sigma_i^{(2m)} - \log\sigma_i^{(m)}\right|")


def _functional(
    name: str,
    words: str,
    formula: str,
    latex: str,
    *,
    units: str = "1",
    dims: tuple[str, ...] = (),
    mean: Mean = GEOMETRIC,
    figure: str = "factors",
) -> tuple[Quantity, Quantity]:
    """Returns a functional of a spectrum and its standard error; `dims` are those besides sublayer and factor."""
    row = Quantity(name, words, formula, latex, units, (*_PLACE, *dims), mean, "spectrum", figure)
    return with_error(row, _OF_SPECTRA)


_SPECTRA = (
    Quantity(
        "singular_values",
        "singular values of one sublayer and its factors",
        "σ_i of the r, descending, then NaN; without those that may be rounding; NaN throughout where it is an estimate",
        r"\sigma_1 \geq \sigma_2 \geq \ldots \geq \sigma_r",
        "1",
        (*_PLACE, "index"),
        reading="spectrum",
        figure="spectrum",
    ),
    *_functional(
        "jacobian_gain",
        "mean-square gain",
        "‖J‖_F²/d = Σ σ_i²/d, d directions between the spaces where J acts",
        r"\frac{\|J\|_F^2}{d} = \frac{1}{d} \sum_i \sigma_i^2",
    ),
    *_functional(
        "log_volume",
        "log-volume",
        "Σ_i log σ_i over the r; log |det J|, which adds up along the stack, where lost_directions is 0",
        r"\sum_{i=1}^{r} \log\sigma_i",
        units="nat",
        mean=ARITHMETIC,
    ),
    *_functional(
        "schatten_norm",
        "Schatten norm",
        "(Σ_i σ_i^p)^(1/p); p = 1 nuclear, p = 2 Frobenius",
        r"\left(\sum_i \sigma_i^p\right)^{1/p}",
        dims=("p",),
        figure="profile",
    ),
    *_functional(
        "effective_rank",
        "effective rank",
        "exp(−Σ p_i log p_i), p_i = σ_i/Σσ (Roy and Vetterli 2007, eq. 4)",
        r"\exp\left(-\sum_i p_i \log p_i\right), \; p_i = \frac{\sigma_i}{\sum_j \sigma_j}",
    ),
    *_functional(
        "singular_value_quantiles",
        "quantiles of the singular values",
        "σ at that share of the r",
        r"\sigma_{(q)}, \; \frac{1}{r} \sum_{i=1}^{r} \mathbf{1}[\sigma_i \leq \sigma_{(q)}] = q",
        dims=("quantile",),
        figure="spectrum_bands",
    ),
    *_functional(
        "spectral_density",
        "spectral density",
        "share of the r in each bin of log10 σ",
        r"\frac{1}{r} \sum_{i=1}^{r} \mathbf{1}[\log_{10}\sigma_i \in \mathrm{bin}]",
        dims=("log_sigma",),
        mean=ARITHMETIC,
        figure="spectral_density",
    ),
    *_functional(
        "largest_singular_value",
        "largest singular value",
        "σ_max = ‖J‖₂",
        r"\sigma_{\max} = \|J\|_2",
        figure="spectrum_bands",
    ),
    *_functional(
        "smallest_singular_value",
        "smallest singular value",
        "σ_min of the r; NaN: not converged, or r not known",
        r"\sigma_{\min} = \sigma_r",
        figure="spectrum_bands",
    ),
    *_functional(
        "condition_number",
        "condition number",
        "σ_max/σ_min of the r; NaN: not converged, or r not known",
        r"\frac{\sigma_{\max}}{\sigma_{\min}}",
    ),
    Quantity(
        "rank_deficit",
        "rank deficit",
        "n − r: what norms take by construction, and σ_i ≤ max(8, √size) ε σ_max, which are rounding; −1: r not known",
        r"n - r",
        "1",
        _PLACE,
        ARITHMETIC,
        "spectrum",
        "factors",
    ),
    Quantity(
        "lost_directions",
        "directions lost between two spaces",
        "dimension of the larger of the two spaces between which J acts, minus r; 0: J is one to one; −1: r not known",
        r"\max(d_{\mathrm{in}}, d_{\mathrm{out}}) - r",
        "1",
        _PLACE,
        ARITHMETIC,
        "spectrum",
        "factors",
    ),
    Quantity(
        "spectrum_probes",
        "probes behind a spectrum",
        "0: exact",
        r"m",
        "1",
        _PLACE,
        ARITHMETIC,
        "spectrum",
        None,
    ),
)

_CHAIN = (
    Quantity(
        "tangent_growth",
        "growth of the leading tangents",
        "log R_ii of J Q = Q' R; Q the orthonormal tangents below the sublayer",
        r"\log R_{ii}, \; J Q = Q' R",
        "nat",
        ("sublayer", "direction"),
        ARITHMETIC,
        "lyapunov",
    ),
    *with_error(
        Quantity(
            "lyapunov_exponent",
            "Lyapunov exponent of depth",
            "mean over sublayers of log R_ii",
            r"\lambda_i = \frac{1}{S} \sum_{\ell=1}^{S} \log R_{ii}^{(\ell)}",
            "nat per sublayer",
            ("direction",),
            ARITHMETIC,
            "lyapunov",
            "exponents",
        ),
        _OF_GROWTH,
    ),
    Quantity(
        "token_mean_share",
        "token-mean share of a leading tangent",
        "T ‖mean_t q_t‖²/‖q‖²: 1 where it is the same on all tokens, 1/T for a random one",
        r"\frac{T \|\overline{q}\|^2}{\|q\|^2}, \; \overline{q} = \frac{1}{T} \sum_t q_t",
        "1",
        ("depth", "direction"),
        ARITHMETIC,
        "lyapunov",
        "alignment",
    ),
    Quantity(
        "cotangent_share",
        "share of the loss's cotangent along a leading tangent",
        "⟨q_i, g_l⟩²/‖g_l‖², first example; 1/n for a random one",
        r"\frac{\langle q_i, g_\ell \rangle^2}{\|g_\ell\|^2}",
        "1",
        ("depth", "direction"),
        ARITHMETIC,
        "alignment",
        "alignment",
    ),
    *with_error(
        Quantity(
            "log_singular_values",
            "log of the end-to-end singular values",
            "log σ_i of ∂x_S/∂x_l, descending; NaN where l was not chosen, or below rounding",
            r"\log\sigma_i\left(\frac{\partial x_S}{\partial x_\ell}\right)",
            "nat",
            ("depth", "direction"),
            ARITHMETIC,
            "end_to_end",
        ),
        _OF_ITERATIONS,
    ),
    Quantity(
        "composite_gain",
        "composite gain between lanes",
        "max |log |sum|| of A_S … A_(l+1), A the lanes' skips; forward: row sums, backward: column sums; NaN: one lane",
        r"\max_i \left|\log\left|\sum_j P_{ij}\right|\right| \;\mathrm{or}\;"
        r" \max_j \left|\log\left|\sum_i P_{ij}\right|\right|, \; P = A_S \cdots A_{\ell+1}",
        "nat",
        ("depth", "side"),
        ARITHMETIC,
        "composite_gain",
    ),
)

ROWS = (
    *with_error(
        Quantity(
            "partial_jacobian",
            "partial Jacobian",
            "E‖(∂x_S/∂x_l)ᵀ v‖²/‖v‖²; v isotropic: ‖∂x_S/∂x_l‖_F²/size; v equal on all tokens: token-common",
            r"\mathbb{E}_v \frac{\|(\partial x_S / \partial x_\ell)^\top v\|^2}{\|v\|^2}",
            "mean square",
            ("depth", "probe"),
            reading="partial_jacobian",
            predicted=True,
        ),
        _OF_PROBES,
    ),
    *_SPECTRA,
    *_CHAIN,
)
