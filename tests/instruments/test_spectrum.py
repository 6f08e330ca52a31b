"""Spectra: exact ones against numpy, estimates against exact ones, intervals that cover, and no number where none converged."""

from functools import cache, partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

from gradflow.instruments.jacobians import spectrum as spectra
from gradflow.instruments.jacobians.functionals import OF_THE_RANK, functionals
from gradflow.instruments.jacobians.krylov import Krylov, estimated
from gradflow.instruments.jacobians.matrices import exactly, singular_values
from gradflow.instruments.jacobians.operators import Operator, operators
from gradflow.instruments.jacobians.spaces import NORMALS, Space, everything, orthonormal
from gradflow.instruments.jacobians.spectrum import spectrum
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.branch import FeedForward
from gradflow.model.equation.sublayer import PARTS, bind, sublayer
from gradflow.model.layers.layer import ALL, FEATURES, Identity, ScalarGain, Zero
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.keys import at
from gradflow.results.quantities import JACOBIANS, LOG_SIGMA, QUANTILES, SCHATTEN

WHOLE = JACOBIANS.index("sublayer")
LARGE = {"causal": cases.BRANCHES["causal"], "gelu": cases.BRANCHES["gelu"]}
ESTIMATES = ("jacobian_gain", "log_volume", "effective_rank", "largest_singular_value")


def of_matrix(matrix, krylov=None, *, couples: str = ALL, rank=None, domain=None, range_=None) -> dict:
    """What is read of the spectrum of a matrix [n, n], an operator on arrays of n/8 tokens with 8 features.

    Exactly, or from products alone as `krylov` says. Matrices of one size share a program.
    """
    matrix = np.asarray(matrix)
    whole = np.zeros((len(matrix) // 8, 8, NORMALS), matrix.dtype)
    spaces = [whole if normals is None else np.asarray(normals) for normals in (domain, range_)]
    rank = len(matrix) if rank is None else rank
    return jax.device_get(_of_matrix(matrix, *spaces, rank, couples, krylov))


@partial(cases.jit, static_argnames=("couples", "krylov"))
def _of_matrix(matrix, domain, range_, rank, couples, krylov):
    like = jax.ShapeDtypeStruct((len(matrix) // 8, 8), matrix.dtype)
    push = lambda v: (matrix @ v.ravel()).reshape(v.shape)
    op = Operator(push, like, Space(domain), Space(range_), rank, couples, ("branch",))
    return exact_summary(op) if krylov is None else estimated(op, jax.random.key(0), op.size, krylov)


def exact_summary(op):
    return exactly(op, singular_values({"it": op})["it"], op.size)


def rotation(n: int, seed: int = 0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


# ---- exact --------------------------------------------------------------------------------------------------


def test_functionals_are_those_of_numpy():
    values = np.sort(np.random.default_rng(0).lognormal(size=64))[::-1]
    found = jax.device_get(cases.jit(functionals)(values, np.ones(64), 64))
    p = values / values.sum()
    assert found["jacobian_gain"] == pytest.approx((values**2).mean())
    assert found["log_volume"] == pytest.approx(np.log(values).sum())
    assert found["effective_rank"] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    for order, norm in zip(SCHATTEN, found["schatten_norm"], strict=True):
        assert norm == pytest.approx((values**order).sum() ** (1 / order))
    quantiles = np.quantile(values, QUANTILES, method="hazen")
    np.testing.assert_allclose(found["singular_value_quantiles"], quantiles, rtol=1e-10)
    edges = [-np.inf, *(np.array(LOG_SIGMA[:-1]) + 0.05), np.inf]
    np.testing.assert_allclose(found["spectral_density"], np.histogram(np.log10(values), edges)[0] / 64)


def test_directions_without_weight_count_for_nothing():
    values = jnp.array([3.0, 2.0, 1.0, 1e-17, 0.0])
    read, again = cases.jit(
        lambda v: (functionals(v, jnp.array([1.0, 1, 1, 0, 0]), 3), functionals(v[:3], jnp.ones(3), 3))
    )(values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), read, again)


def test_known_spectra_are_exact():
    """A rotation has σ = 1; a diagonal its entries; both from a matrix and from products alone."""
    turn = of_matrix(rotation(40))
    np.testing.assert_allclose(turn["singular_values"], 1, rtol=1e-12)
    assert turn["log_volume"] == pytest.approx(0, abs=1e-10)
    assert turn["effective_rank"] == pytest.approx(40)
    entries = np.linspace(0.5, 2, 40)
    scale = of_matrix(np.diag(entries), couples=FEATURES)
    np.testing.assert_allclose(scale["singular_values"], entries[::-1], rtol=1e-12)
    for matrix in (rotation(40), np.eye(40)):
        by_products = of_matrix(matrix, Krylov(probes=3, iterations=8))
        for name, value in (("largest_singular_value", 1), ("smallest_singular_value", 1), ("log_volume", 0)):
            assert by_products[name] == pytest.approx(value, abs=1e-8)
            assert by_products[f"{name}_sem"] < 1e-8
        assert by_products["effective_rank"] == pytest.approx(40)


@pytest.mark.parametrize("norm", ["layernorm", pytest.param("rmsnorm", marks=pytest.mark.further)])
def test_a_pure_norm_scales_by_one_over_sigma(norm):
    layer = cases.NORMS[norm]
    x = 3 * cases.normal(5, 8)
    params = cases.float64(layer.init(jax.random.key(0), 8))
    identity = {part: Identity() for part in ("skip", "read", "norm_in", "branch", "norm_branch")}
    identity["write"] = Zero()
    layers = {**identity, "norm_out": layer}

    @cases.jit
    def run(params, x):
        op = operators(layers, {part: {} for part in identity} | {"norm_out": params}, x, everything(x))[2]["norm_out"]
        return exact_summary(op), estimated(op, jax.random.key(0), op.size, Krylov(probes=3, iterations=8))

    exact, by_products = jax.device_get(run(params, x))
    x = np.asarray(x)
    centred = x - x.mean(-1, keepdims=True) if norm == "layernorm" else x
    sigma = np.sqrt((centred**2).mean(-1) + layer.eps)
    taken = 2 if norm == "layernorm" else 1
    kept = exact["singular_values"][: 5 * (8 - taken)]
    np.testing.assert_allclose(kept, np.sort(np.repeat(1 / sigma, 8 - taken))[::-1], rtol=1e-10)
    assert np.isnan(exact["singular_values"][len(kept) :]).all()
    assert exact["rank_deficit"] == 5 * taken
    assert by_products["largest_singular_value"] == pytest.approx(1 / sigma.min())
    assert by_products["smallest_singular_value"] == pytest.approx(1 / sigma.max(), rel=1e-3)
    low, high = (by_products["log_volume"] + sign * 5 * by_products["log_volume_sem"] for sign in (-1, 1))
    assert low < exact["log_volume"] < high


def test_directions_that_rounding_takes_count_as_lost_and_for_nothing_else():
    entries = np.append(np.zeros(3), np.linspace(0.5, 2, 37))
    turned = rotation(40) @ np.diag(entries) @ rotation(40, 1)
    for matrix in (np.diag(entries), turned, turned.astype(np.float32)):
        found = of_matrix(matrix)
        assert found["rank_deficit"] == found["lost_directions"] == 3
        assert found["log_volume"] == pytest.approx(np.log(entries[3:]).sum(), abs=1e-4)
        assert found["smallest_singular_value"] == pytest.approx(0.5, rel=1e-5)
        assert found["condition_number"] == pytest.approx(4, rel=1e-5)
        assert found["jacobian_gain"] == pytest.approx((entries**2).mean(), rel=1e-5)
        assert np.isfinite(found["singular_values"]).sum() == 37
        assert found["spectral_density"].sum() == pytest.approx(1)


def test_where_rounding_could_be_a_direction_no_number_hangs_on_it():
    """A σ of 1e-5 in float32, which is a number in float64; what a small σ does not change is told."""
    entries = np.append(1e-5, np.linspace(0.5, 2, 40)[1:])
    fine, coarse = (of_matrix(np.diag(entries).astype(dtype)) for dtype in (np.float64, np.float32))
    assert fine["log_volume"] == pytest.approx(np.log(entries).sum())
    assert fine["rank_deficit"] == 0
    assert coarse["rank_deficit"] == coarse["lost_directions"] == -1
    for name in OF_THE_RANK:
        assert np.isnan(coarse[name]).all()
        assert np.isnan(coarse[f"{name}_sem"]).all()
    for name in ("jacobian_gain", "effective_rank", "largest_singular_value"):
        assert coarse[name] == pytest.approx(fine[name], rel=1e-4)


def test_each_token_is_measured_by_its_own_scale():
    """What is small beside another token's Jacobian is no rounding of it; a token without any is lost whole."""
    scales = np.array([1e6, 1.0, 1e-6, 0.0])
    turned = linalg.block_diag(*(scale * rotation(8, i) for i, scale in enumerate(scales)))
    found = of_matrix(turned.astype(np.float32), couples=FEATURES)
    assert found["rank_deficit"] == 8
    assert found["condition_number"] == pytest.approx(1e12, rel=1e-4)
    assert found["log_volume"] == pytest.approx(0, abs=1e-2)


def test_of_a_map_that_takes_all_to_zero_nothing_is_left():
    for krylov in (None, Krylov(probes=3, iterations=20, solves=0)):
        found = of_matrix(np.zeros((40, 40)), krylov)
        assert found["jacobian_gain"] == found["largest_singular_value"] == 0
        for name in (*OF_THE_RANK, "effective_rank"):
            assert np.isnan(found[name]).all()
        assert found["rank_deficit"] == (40 if krylov is None else -1)


@pytest.mark.long
def test_an_estimate_does_not_count_what_is_lost():
    """Three of forty directions, in both precisions: no number that hangs on their count."""
    entries = np.append(np.zeros(3), np.linspace(0.5, 2, 40)[3:])
    for dtype, solves in ((np.float64, 0), (np.float32, 4)):
        matrix = (rotation(40) @ np.diag(entries) @ rotation(40, 1)).astype(dtype)
        found = of_matrix(matrix, Krylov(probes=3, iterations=20, solves=solves))
        assert found["rank_deficit"] == found["lost_directions"] == -1
        assert all(np.isnan(found[name]).all() for name in OF_THE_RANK)
        assert found["largest_singular_value"] == pytest.approx(2, rel=1e-3)


# ---- what sublayers lose ------------------------------------------------------------------------------------


def low(params):
    """The same with every weight matrix of rank 2."""
    left = lambda a: np.linalg.svd(a, full_matrices=False)
    cut = lambda u, s, v: (u[..., :2] * s[..., None, :2]) @ v[..., :2, :]
    return jax.tree.map(lambda a: jnp.asarray(cut(*left(a))) if a.ndim == 2 else a, params)


LOSING = {
    "fewer keys than queries": ("branch", {"branch": Attention(3, kv_heads=1)}, None),
    "weights of low rank": ("branch", {"branch": FeedForward(2, "gelu")}, low),
    "dead units": ("branch", {"branch": FeedForward(1, "relu")}, None),
    "a branch that is nothing yet": ("branch_term", {"branch": Attention(3), "write": ScalarGain(0.0)}, None),
    "a residual from the normalized input": (
        "sublayer",
        {"skip": LayerNorm(), "norm_in": LayerNorm(), "branch": Attention(3)},
        None,
    ),
    "no residual from the normalized input": (
        "sublayer",
        {"skip": Zero(), "norm_in": RMSNorm(), "branch": Attention(3)},
        None,
    ),
}


@cache
def losing(kind: str):
    """Layers, parameters in float64, the bottom of the stream, and the Jacobian [36, 36] by JAX's own derivative."""
    factor, given, change = LOSING[kind]
    layers = {part: given.get(part, Identity()) for part in PARTS}
    params = {part: layer.init(at(jax.random.key(0), part), 12) for part, layer in layers.items()}
    params = (change or (lambda same: same))(jax.tree.map(lambda a: a.astype(jnp.float64), params))

    def through(params, x):
        parts = bind(layers, params)
        if factor != "sublayer":
            parts["skip"] = jnp.zeros_like
        return sublayer(x, **parts)

    x = cases.normal(3, 12)
    matrix = cases.jit(jax.jacfwd(through, 1))(params, x)
    return layers, params, x, np.asarray(matrix).reshape(36, 36)


FEW = ("fewer keys than queries", "weights of low rank", "a residual from the normalized input")


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in FEW else pytest.mark.further) for kind in LOSING]
)
def test_a_sublayer_is_read_on_the_space_that_it_leaves_in_both_precisions(kind, dtype):
    """Against numpy in float64, on bases made by hand of what the norms let through."""
    factor = LOSING[kind][0]
    layers, params, x, matrix = losing(kind)

    def run(params, x):
        op = operators(layers, params, x, everything(x))[2][factor]
        return exact_summary(op)

    narrow = lambda tree: jax.tree.map(lambda a: a.astype(dtype), tree)
    found = jax.device_get(cases.jit(run)(narrow(params), narrow(x)))
    taken = {LayerNorm: lambda row: [np.ones(12), row], RMSNorm: lambda row: [row]}
    seen = taken.get(type(layers["norm_in"]), lambda row: [np.zeros(12)])
    spaces = [np.linalg.svd(np.atleast_2d(seen(row)))[2][np.linalg.matrix_rank(seen(row)) :].T for row in np.asarray(x)]
    basis = linalg.block_diag(*spaces)
    values = np.linalg.svd(matrix @ basis, compute_uv=False)
    left = values[values > 1e-11 * values[0]] if values[0] else values[:0]
    assert found["rank_deficit"] == 36 - len(left)
    assert found["jacobian_gain"] == pytest.approx((values**2).sum() / basis.shape[1], rel=1e-4)
    if len(left):
        assert found["log_volume"] == pytest.approx(np.log(left).sum(), abs=2e-3)
        assert found["condition_number"] == pytest.approx(left[0] / left[-1], rel=2e-3)
        assert found["smallest_singular_value"] == pytest.approx(left[-1], rel=2e-3)
        np.testing.assert_allclose(found["singular_values"][: len(left)], left, rtol=2e-3)


@pytest.mark.further
@pytest.mark.parametrize("kinds", [("causal",), ("causal", "gated")])
def test_the_spectra_of_a_window_are_those_of_its_tokens(kinds):
    branches = {kind: cases.TWO[kind] for kind in kinds}
    model = cases.model(cases.ALL["pre"](cases.NORMS["layernorm"]), 2, branches)
    params, batch = cases.drawn(model), cases.batch()
    run = lambda **options: cases.jit(lambda p, b: spectra.window(model, p, b, **options))(params, batch)
    short = {name: a[:1, :2] for name, a in batch.items()}
    alone = cases.jit(lambda p, b: spectrum(model, p, b, factors=spectra.WINDOWED))(params, short)
    for found in (run(tokens=2), run(dense=2 * cases.WIDTH + 1)):
        for name in ("singular_values", "rank_deficit", "log_volume"):
            np.testing.assert_array_equal(found[name], alone[name])
    assert run(dense=1)["singular_values"].shape[-1] == cases.WIDTH  # one token at the least


# ---- every wiring -------------------------------------------------------------------------------------------


over_wirings = pytest.mark.parametrize("wiring", cases.rows(without=cases.SIMILAR))


@cache
def both(wiring):
    """Exact and matrix-free spectra of the sublayers of one block with causal attention, at a size where both run."""
    model = cases.model(wiring, 2, {"causal": cases.BRANCHES["causal"]}, width=16)
    params, batch = cases.drawn(model), cases.batch()
    options = {"krylov": Krylov(probes=2, iterations=40, solves=10, solver_iterations=300), "factors": ("sublayer",)}
    run = lambda p, b: (spectrum(model, p, b, factors=("sublayer",)), spectrum(model, p, b, dense=0, **options))
    return jax.device_get(cases.jit(run)(params, batch))


@pytest.mark.long
@over_wirings
def test_the_largest_singular_value_from_products_alone_is_that_of_the_matrix(wiring):
    exact, estimate = (found["largest_singular_value"][:, WHOLE] for found in both(wiring))
    np.testing.assert_allclose(estimate, exact, rtol=1e-4)


@pytest.mark.long
@over_wirings
def test_a_smallest_singular_value_is_right_or_missing(wiring):
    exact, estimate = (found["smallest_singular_value"][:, WHOLE] for found in both(wiring))
    told = ~np.isnan(estimate)
    np.testing.assert_allclose(estimate[told], exact[told], rtol=1e-2)
    np.testing.assert_array_equal(np.isnan(both(wiring)[1]["condition_number"][:, WHOLE]), ~told)


@pytest.mark.long
def test_smallest_singular_values_are_mostly_found():
    rows = cases.rows(without=(*cases.LANES, *cases.SIMILAR))
    found = [both(row.values[0])[1]["smallest_singular_value"][:, WHOLE] for row in rows]
    assert np.isfinite(found).mean() > 0.5


@pytest.mark.long
@over_wirings
def test_other_factors_are_missing_where_they_were_not_asked_for(wiring):
    _, estimate = both(wiring)
    others = [i for i in range(len(JACOBIANS)) if i != WHOLE]
    assert np.isnan(estimate["jacobian_gain"][:, others]).all()
    assert (estimate["rank_deficit"][:, others] == -1).all()


# ---- intervals ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["pre", "post"])
def test_intervals_cover_the_truth_at_their_rate(name):
    """95% t-intervals of ‖J‖_F² and of the log-volume, for 100 keys: at least 87 hold the exact value."""
    model = cases.model(cases.ALL[name](cases.NORMS["layernorm"]), 1, {"causal": cases.BRANCHES["causal"]}, width=16)
    params, batch = cases.drawn(model), cases.batch()
    x = model.enter(params, batch["inputs"][0])
    layers, own = model.stack.sublayers[0].layers, jax.tree.map(lambda a: a[0], params["stack"][0]["causal"])
    krylov = Krylov(probes=8, iterations=24, solves=0)

    def run(keys):
        op = operators(layers, own, x, everything(x))[2]["sublayer"]
        return exact_summary(op), jax.lax.map(lambda key: estimated(op, key, op.size, krylov), keys, batch_size=50)

    exact, found = jax.device_get(cases.jit(run)(jax.random.split(jax.random.key(0), 100)))
    t = stats.t.ppf(0.975, krylov.probes - 1)
    for quantity in ("jacobian_gain", "log_volume"):
        missed = abs(found[quantity] - exact[quantity]) > t * found[f"{quantity}_sem"]
        assert missed.sum() <= 13
        assert np.median(found[f"{quantity}_sem"]) > 0  # and are no wider than they need be:
        assert np.median(found[f"{quantity}_sem"]) < 2 * found[quantity].std(ddof=1)


@pytest.mark.long
def test_more_probes_and_no_luck_make_the_error_smaller():
    matrix = np.random.default_rng(0).normal(size=(64, 64)) / 8
    few, many = (of_matrix(matrix, Krylov(probes=m, iterations=32, solves=0)) for m in (4, 64))
    assert many["jacobian_gain_sem"] < few["jacobian_gain_sem"]
    for name in ESTIMATES:
        assert np.isfinite(many[f"{name}_sem"])


@pytest.mark.long
def test_too_few_iterations_show_in_the_error():
    """A spectrum over six decades, which four steps can't resolve: the change on doubling is in the error, or too large."""
    matrix = rotation(64) @ np.diag(np.logspace(0, -6, 64)) @ rotation(64, 1)
    rough = of_matrix(matrix, Krylov(probes=32, iterations=4, solves=0))
    assert np.isnan(rough["log_volume"])
    easier = rotation(64) @ np.diag(np.logspace(0, -1, 64)) @ rotation(64, 1)
    fine = of_matrix(easier, Krylov(probes=32, iterations=16, solves=0))
    assert abs(fine["log_volume"] - of_matrix(easier)["log_volume"]) < 4 * fine["log_volume_sem"]


@pytest.mark.parametrize(
    ("n", "krylov"),
    [
        pytest.param(40, Krylov(probes=3, iterations=20, solves=4), id="few directions"),
        pytest.param(64, Krylov(probes=2), id="usual", marks=pytest.mark.further),
        pytest.param(64, Krylov(probes=2, solver_iterations=5), id="few iterations", marks=pytest.mark.further),
        pytest.param(64, Krylov(probes=2, solves=0), id="no solver", marks=pytest.mark.further),
    ],
)
def test_what_does_not_converge_is_missing(n, krylov):
    """A condition number of 1e6 in float32, and a solver with few iterations."""
    matrix = (rotation(n) @ np.diag(np.logspace(0, -6, n)) @ rotation(n, 1)).astype(np.float32)
    found = of_matrix(matrix, krylov)
    assert np.isnan(found["smallest_singular_value"])
    assert np.isnan(found["condition_number"])
    assert found["largest_singular_value"] == pytest.approx(1, rel=1e-4)


def test_a_map_that_loses_directions_on_the_way_has_no_estimated_volume():
    """The quadrature would count them as σ = 0 at a random weight."""
    found = of_matrix(rotation(40), Krylov(probes=3, iterations=8), rank=35)
    for name in ("log_volume", "smallest_singular_value", "singular_value_quantiles"):
        assert np.isnan(found[name]).all()


@pytest.mark.long
def test_the_smaller_side_is_where_probes_start():
    normals = orthonormal(cases.normal(5, 8, 2))
    matrix = np.random.default_rng(0).normal(size=(40, 40))
    for domain, range_ in ((normals, None), (None, normals)):
        spaces = {"rank": 30, "domain": domain, "range_": range_}
        exact, found = of_matrix(matrix, **spaces), of_matrix(matrix, Krylov(probes=16, iterations=20), **spaces)
        assert found["largest_singular_value"] == pytest.approx(exact["largest_singular_value"], rel=1e-6)
        assert found["smallest_singular_value"] == pytest.approx(exact["smallest_singular_value"], rel=1e-2)
        assert found["log_volume"] == pytest.approx(exact["log_volume"], rel=1e-12)


def test_a_jacobian_that_is_not_finite_reads_nan_and_no_number():
    matrix = np.full((40, 40), np.nan)
    for found in (of_matrix(matrix), of_matrix(matrix, Krylov(probes=3, iterations=8))):
        assert np.isnan(found["jacobian_gain"])
        assert np.isnan(found["largest_singular_value"])


# ---- the reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factors", [("norm_out", "fork"), pytest.param(JACOBIANS, marks=pytest.mark.further)], ids=len)
def test_the_reading_says_which_spectra_are_exact(factors):
    model = cases.model(cases.ALL["post"](cases.NORMS["layernorm"]), 2, LARGE)
    read = jax.jit(lambda p, b: spectrum(model, p, b, dense=0, krylov=Krylov(2, 4, 0), factors=factors))
    asked = [JACOBIANS.index(factor) for factor in factors]
    found = {name: a[:, asked] for name, a in jax.device_get(read(cases.drawn(model), cases.batch())).items()}
    probes = dict(zip(factors, found["spectrum_probes"].T, strict=True))
    assert probes["norm_out"].tolist() == [0, 0, 0, 0]  # no tokens coupled
    assert probes["fork"].tolist() == [2, 0, 2, 0]
    exact = found["spectrum_probes"] == 0
    assert (found["log_volume_sem"][exact] == 0).all()
    assert (found["jacobian_gain_sem"][~exact] > 0).all()
    assert np.isnan(found["singular_values"][~exact]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"factors": ("frok",)}, "choose from norm_in, branch"), ({"factors": ()}, "choose from norm_in, branch")],
)
def test_unknown_factors_are_refused(options, message):
    model = cases.model(cases.ALL["post"](cases.NORMS["layernorm"]), 1, LARGE)
    with pytest.raises(ValueError, match=message):
        spectrum(model, cases.drawn(model), cases.batch(), **options)


def test_options_without_an_error_are_refused():
    with pytest.raises(ValueError, match="probes is 1: an error needs at least 2"):
        Krylov(probes=1)
    with pytest.raises(ValueError, match="iterations is 0: at least 1 is needed"):
        Krylov(iterations=0)
    assert spectra.DENSE > 0
