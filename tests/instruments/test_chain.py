"""The chain of Jacobians end to end: against dense products, log-volumes, and within standard errors."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments import directions
from gradflow.instruments.jacobians import chain
from gradflow.instruments.jacobians.spectrum import spectrum
from gradflow.model.branches.branch import FeedForward
from gradflow.model.equation.sublayer import sublayer, walk
from gradflow.model.layers.layer import Gain
from gradflow.model.layers.norms import LayerNorm, RMSNorm
from gradflow.model.parameters.keys import at, root
from gradflow.results.quantities import JACOBIANS, PROBES

SHARP = {"layernorm": LayerNorm(1e-13), "rmsnorm": RMSNorm(1e-13)}  # eps → 0: what a norm takes is gone


def small(wiring, branches=cases.TWO, depth: int = 2):
    """A model, its parameters, and a batch of two."""
    model = cases.model(wiring, depth, branches)
    return model, cases.drawn(model), cases.batch()


# ---- by probes ---------------------------------------------------------------------------------------------


def exact_partials(model, params, batch):
    """`{probe: E‖(∂x_S/∂x_l)ᵀv‖²/‖v‖² at every l}` by dense Jacobians of the stack above l, mean over examples."""

    def top(nudges, x):
        visit = lambda x, parts, nudge: (sublayer(x + nudge, **parts), None)
        return walk(model.stack, params["stack"], x, visit, nudges)[0]

    squares = []
    for inputs in batch["inputs"]:
        x = model.enter(params, inputs)
        J = cases.jit(jax.jacrev(top))(jnp.zeros((len(model.sublayers), *x.shape)), x)
        J = np.moveaxis(np.asarray(J).reshape(*x.shape, -1, x.size), -2, 0)  # [l, lanes, tokens, features, inputs]
        common = J.sum(-3)  # pulled down from the same vector of features on every token
        total = lambda a, size=x.size: (a**2).sum(tuple(range(1, a.ndim))) / size
        squares.append([np.append(total(a), 1) for a in (J, common)])
    return dict(zip(("isotropic", "token_common"), np.mean(squares, axis=0), strict=True))


@pytest.mark.parametrize(
    "wiring", [cases.row(*name.split("-")) for name in ("pre-rmsnorm", "post-layernorm", "residual-layernorm")]
)
def test_partial_jacobians_are_within_four_standard_errors_of_the_dense_ones(wiring):
    model, params, batch = small(wiring, {kind: cases.BRANCHES[kind] for kind in ("bidirectional", "gated")})
    found = jax.device_get(cases.jit(lambda p, b: chain.partial_jacobian(model, p, b, probes=48, key=0))(params, batch))
    exact = exact_partials(model, params, batch)
    assert found["partial_jacobian"].shape == (5, 2)
    for i, probe in enumerate(PROBES):
        estimate, sem = found["partial_jacobian"][:, i], found["partial_jacobian_sem"][:, i]
        assert estimate[-1] == 1
        assert sem[-1] == 0
        assert (abs(estimate - exact[probe])[:-1] < 4 * sem[:-1]).all()
        assert (sem[:-1] < 0.2 * estimate[:-1]).all()
    assert abs(exact["isotropic"][0] / exact["token_common"][0] - 1) > 0.1  # two quantities, not one


def test_partial_jacobians_do_not_depend_on_the_scale_of_the_loss_but_on_the_key():
    model, params, batch = small(cases.ALL["pre"](cases.NORMS["layernorm"]), depth=1)
    read = cases.jit(lambda p, b, key: chain.partial_jacobian(model, p, b, probes=3, key=key))
    once, twice, other = (read(params, batch, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once["partial_jacobian"], twice["partial_jacobian"])
    assert (np.asarray(once["partial_jacobian"])[:-1] != np.asarray(other["partial_jacobian"])[:-1]).all()
    shifted = {**batch, "targets": batch["targets"] + 1}
    np.testing.assert_array_equal(
        once["partial_jacobian"], read(params, shifted, jax.random.key(1))["partial_jacobian"]
    )


def test_one_probe_has_no_error_and_is_refused():
    model, params, batch = small(cases.ALL["pre"](cases.NORMS["layernorm"]), depth=1)
    with pytest.raises(ValueError, match="probes is 1: an error needs at least 2"):
        chain.partial_jacobian(model, params, batch, probes=1)


# ---- leading directions -------------------------------------------------------------------------------------


def from_position(model, params, x, l: int):
    """The dense `∂x_S/∂x_l` of one example, [n, n]."""

    def top(nudge):
        visit = lambda x, parts, position: (sublayer(x + jnp.where(position == l, nudge, 0.0), **parts), None)
        y, _ = walk(model.stack, params["stack"], x, visit, jnp.arange(len(model.sublayers)))
        return y

    return np.asarray(cases.jit(jax.jacfwd(top))(jnp.zeros_like(x))).reshape(x.size, x.size)


def read(reading, model, params, batch, **options):
    return jax.device_get(cases.jit(lambda p, b: reading(model, p, b, **options))(params, batch))


@pytest.mark.parametrize(
    "name", ["pre", "post", *(pytest.param(name, marks=pytest.mark.further) for name in ("deepnorm", "sandwich"))]
)
@pytest.mark.parametrize("norm", SHARP)
def test_the_growths_of_all_directions_sum_to_the_log_volume(name, norm):
    """Behind a norm on the stream there are d − 2 directions a token (RMSNorm: d − 1); below it, at the bottom, all."""
    model, params, batch = small(cases.ALL[name](SHARP[norm]))
    taken = {"layernorm": 2, "rmsnorm": 1}[norm] if name in ("post", "deepnorm") else 0
    leading = cases.TOKENS * (cases.WIDTH - taken)
    growth = read(chain.lyapunov, model, params, batch, leading=leading)["tangent_growth"]
    volume = read(spectrum, model, params, batch, factors=("sublayer",))["log_volume"][:, JACOBIANS.index("sublayer")]
    np.testing.assert_allclose(growth.sum(1)[1:], volume[1:], rtol=1e-6)
    if not taken:
        np.testing.assert_allclose(growth.sum(1)[0], volume[0], rtol=1e-6)


@pytest.mark.parametrize("leading", [1, 5, 40])
def test_tangents_are_orthonormal_to_rounding_and_grow_as_the_dense_qr_says(leading):
    scales = jnp.logspace(0, -6, 40)[:, None]  # nearly dependent: what takes more than one pass of Gram-Schmidt
    tangents = (cases.normal(1, 40) + scales * cases.normal(40, 40, seed=2))[:leading].reshape(leading, 5, 8)
    q, growth = directions.orthonormalized(tangents)
    q, dense = q.reshape(leading, 40), np.linalg.qr(np.asarray(tangents).reshape(leading, 40).T)
    np.testing.assert_allclose(q @ q.T, np.eye(leading), atol=1e-14)
    np.testing.assert_allclose(growth, np.log(np.abs(np.diagonal(dense[1]))), atol=1e-8)
    np.testing.assert_allclose(np.abs(np.diagonal(q @ dense[0])), 1, atol=1e-8)


def test_exponents_are_means_of_growths_and_their_error_ignores_a_trend():
    l = jnp.arange(400.0)
    kinds = jnp.where(l % 2 == 0, 0.3, -0.1)
    noise = cases.normal(400)
    assert abs(float(chain._scatter((noise + 0.05 * l + kinds)[:, None], 2)[0]) - 1) < 0.1
    model, params, batch = small(cases.ALL["pre"](cases.NORMS["layernorm"]))
    found = read(chain.lyapunov, model, params, batch, leading=3)
    np.testing.assert_allclose(found["lyapunov_exponent"], found["tangent_growth"].mean(0), rtol=1e-12)


def test_the_leading_growth_of_a_deep_stack_is_what_its_whole_jacobian_does_to_the_first_tangent():
    """And no random tangents grow by more than the leading singular directions, together."""
    model, params, batch = small(cases.ALL["post"](cases.NORMS["layernorm"]), depth=12)
    x = model.enter(params, batch["inputs"][0])
    growth = read(chain.lyapunov, model, params, batch, leading=3)["tangent_growth"].sum(0)
    whole = from_position(model, params, x, 0)
    first = np.asarray(directions.draws(at(root(0), "tangents"), 3, x)[0].ravel())
    assert float(growth[0]) == pytest.approx(np.log(np.linalg.norm(whole @ first) / np.linalg.norm(first)), abs=1e-6)
    leading = np.log(np.linalg.svd(whole, compute_uv=False)[:3])
    assert (np.cumsum(growth) <= np.cumsum(leading)).all()


def test_a_thousand_layers_neither_overflow_nor_vanish():
    """Chaos of a bounded stream, in float32, which ends at e^88."""
    model = cases.model(cases.ALL["post"](LayerNorm()), 1000, {"tanh": FeedForward(2, "tanh")})
    params = model.init(0)
    grown = {**params, "stack": jax.tree.map(lambda a: 8 * a, params["stack"])}
    found = jax.device_get(jax.jit(lambda p, b: chain.lyapunov(model, p, b, leading=2))(grown, cases.batch()))
    assert found["tangent_growth"].dtype == np.float32
    assert np.isfinite(found["tangent_growth"]).all()
    assert found["tangent_growth"].sum(0)[0] > 100


@pytest.mark.parametrize("reading", [chain.lyapunov, spectrum])
def test_behind_an_overflow_everything_is_nan(reading):
    """relu'(NaN) is 0: the derivative of nothing would look like a number."""
    model = cases.model(cases.ALL["none"](), 6, {"relu": cases.BRANCHES["relu"]})
    params = model.init(0)
    grown = {**params, "stack": jax.tree.map(lambda a: 1e4 * a, params["stack"])}
    found = read(reading, model, grown, cases.batch())
    name = {chain.lyapunov: "tangent_growth", spectrum: "largest_singular_value"}[reading]
    finite = np.isfinite(found[name]).any(tuple(range(1, found[name].ndim)))
    assert finite.tolist() == sorted(finite, reverse=True)
    assert finite[0]
    assert not finite[-1]


@pytest.mark.parametrize("name", ["pre", "post", "residual"])
def test_end_to_end_singular_values_are_those_of_the_dense_product(name):
    model, params, batch = small(cases.ALL[name](cases.NORMS["layernorm"]))
    x = model.enter(params, batch["inputs"][0])
    found = read(chain.end_to_end, model, params, batch, starts=(0, 2, -1), leading=6)
    assert found["log_singular_values"].shape == (5, 6)
    for l in (0, 2):
        exact = np.log(np.linalg.svd(from_position(model, params, x, l), compute_uv=False)[:6])
        np.testing.assert_allclose(found["log_singular_values"][l], exact, atol=1e-8)
    assert found["log_singular_values"][4, 0] == pytest.approx(0, abs=1e-12)  # the identity: one value, once
    assert np.isnan(found["log_singular_values"][4, 1:]).all()
    assert np.isnan(found["log_singular_values"][[1, 3]]).all()


def test_decayed_chains_come_in_logs():
    """In float32: a skip of a hundredth, 60 times, is e^(−276)."""
    wiring = cases.Wiring("small", skip=Gain(1e-2))
    model = cases.model(wiring, 60, {"relu": cases.BRANCHES["relu"]})
    params = jax.tree.map(lambda a: 1e-3 * a, model.init(0))
    found = jax.device_get(jax.jit(lambda p, b: chain.end_to_end(model, p, b, leading=2))(params, cases.batch()))
    assert found["log_singular_values"][0, 0] == pytest.approx(60 * np.log(1e-2), abs=1.0)


def test_shares_of_the_cotangent_over_all_directions_sum_to_one():
    """Two directions a token are lost behind a LayerNorm: what rounding leaves of them is made orthogonal, too."""
    model, params, batch = small(cases.ALL["post"](cases.NORMS["layernorm"]))
    n = cases.TOKENS * cases.WIDTH
    shares = jax.jit(lambda key: chain.alignment(model, params, batch, leading=n, key=key)["cotangent_share"])
    for seed in range(100):
        found = shares(jax.random.key(seed))
        assert found.shape == (5, n)
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_token_mean_share_is_one_for_what_all_tokens_have_in_common():
    same = jnp.broadcast_to(cases.normal(3, 1, 8), (3, 5, 8))
    np.testing.assert_allclose(
        directions.token_mean_share(same / jnp.linalg.norm(same.reshape(3, -1), axis=1)[:, None, None]), 1
    )
    apart = same.at[:, 1:].set(0)
    apart = apart / jnp.linalg.norm(apart.reshape(3, -1), axis=1)[:, None, None]
    np.testing.assert_allclose(directions.token_mean_share(apart), 1 / 5)


@pytest.mark.parametrize(
    ("reading", "options", "message"),
    [
        (chain.lyapunov, {"leading": 0}, "leading is 0: between 1 and tokens × features = 40"),
        (chain.lyapunov, {"leading": 41}, "leading is 41"),
        (chain.end_to_end, {"starts": (9,)}, "positions of the stream, 0 … 4"),
        (chain.end_to_end, {"starts": ()}, "positions of the stream, 0 … 4"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_words(reading, options, message):
    model, params, batch = small(cases.ALL["pre"](cases.NORMS["layernorm"]))
    with pytest.raises(ValueError, match=message):
        reading(model, params, batch, **options)
