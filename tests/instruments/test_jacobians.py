"""Jacobians: spectra against numpy, ranks that the norms dictate, partial Jacobians within their standard errors."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import distance

from gradflow.instruments import jacobians
from gradflow.model.equation import sublayer, walk
from gradflow.results.quantities import JACOBIANS, PROBES

SOME = ["pre-layernorm", "pre-rmsnorm", "post-layernorm", "post-rmsnorm", "sandwich-layernorm", "deepnorm-rmsnorm"]
over_some = pytest.mark.parametrize("wiring", [cases.row(*name.split("-")) for name in SOME])
TOKENS, WIDTH = cases.TOKENS, cases.WIDTH


def small(wiring, branches=cases.TWO, depth: int = 2):
    """A model, its parameters, and a batch of two."""
    model = cases.model(wiring, depth, branches)
    return model, cases.drawn(model), cases.batch()


@cache
def spectrum(wiring):
    model, params, batch = small(wiring)
    return jax.device_get(cases.jit(lambda p, b: jacobians.spectrum(model, p, b))(params, batch))


@cache
def by_autodiff(wiring):
    """Jacobian of each sublayer at the stream of the first example, by reverse mode, [S, outputs, inputs]."""
    model, params, batch = small(wiring)
    x = model.enter(params, batch["inputs"][0])
    visit = lambda x, parts, _: (sublayer(x, **parts), jax.jacrev(lambda x: sublayer(x, **parts))(x))
    return np.asarray(cases.jit(lambda p, x: walk(model.segments, p, x, visit)[1])(params["stack"], x)).reshape(
        4, x.size, x.size
    )


@over_some
def test_singular_values_are_those_of_numpy(wiring):
    found = spectrum(wiring)
    assert found["singular_values"].shape == (4, len(JACOBIANS), TOKENS * WIDTH)
    whole = found["singular_values"][:, JACOBIANS.index("sublayer")]
    for values, J in zip(whole, by_autodiff(wiring), strict=True):
        np.testing.assert_allclose(values, np.linalg.svd(J, compute_uv=False), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["jacobian_gain"], (found["singular_values"] ** 2).mean(-1), rtol=1e-12)
    frobenius = [np.sum(J**2) / len(J) for J in by_autodiff(wiring)]
    np.testing.assert_allclose(found["jacobian_gain"][:, JACOBIANS.index("sublayer")], frobenius, rtol=1e-10)


@over_some
def test_a_norm_on_the_path_takes_its_directions_from_every_token(wiring):
    """LayerNorm has two zero directions a token, the mean and the radius; RMSNorm one, the radius. Pre-norm keeps all."""
    deficit = dict(zip(JACOBIANS, spectrum(wiring)["rank_deficit"].T, strict=True))
    one_norm = {"LayerNorm": 2, "RMSNorm": 1}
    norms = {name: one_norm.get(type(getattr(wiring, name)).__name__, 0) for name in ("norm_in", "norm_out")}
    for name, per_token in norms.items():
        assert (deficit[name] == per_token * TOKENS).all()
    assert (deficit["sublayer"] == norms["norm_out"] * TOKENS).all()
    assert (deficit["fork"] == 0).all()


def test_a_spectrum_of_lanes_is_refused_in_words():
    model, params, batch = small(cases.residual(cases.NORMS["layernorm"]))
    with pytest.raises(ValueError, match=r"several lanes differ in size: use `jacobians.matrices`"):
        jacobians.spectrum(model, params, batch)


def test_matrices_at_a_sublayer_are_those_of_the_walk():
    wiring = cases.ALL["post"](cases.NORMS["layernorm"])
    model, params, batch = small(wiring)
    inputs = batch["inputs"][0]
    for position in (2, -1):
        J = cases.jit(lambda p, i, at=position: jacobians.at_sublayer(model, p, i, at))(params, inputs)
        assert distance(np.asarray(J["sublayer"]), by_autodiff(wiring)[position]) < 1e-10
        assert distance(np.asarray(J["skip_term"] + J["branch_term"]), np.asarray(J["fork"])) < 1e-12


def test_a_jacobian_too_large_to_be_dense_is_refused_with_the_remedy():
    parts = dict.fromkeys(("skip", "read", "norm_in", "branch", "norm_branch", "write", "norm_out"), lambda u: u)
    with pytest.raises(ValueError, match=r"Jacobian of 2049 .* beyond 2048: .*`partial_jacobian`") as error:
        jacobians.matrices(parts, jnp.ones((3, 683)))
    assert "\n" not in str(error.value)
    assert jacobians.matrices(parts, jnp.ones((1, 3)))["sublayer"].tolist() == (2 * np.eye(3)).tolist()


# ---- of the whole stack -------------------------------------------------------------------------------------


def exact_partials(model, params, batch):
    """`{probe: E‖(∂x_S/∂x_l)ᵀv‖²/‖v‖² at every l}` by dense Jacobians of the stack above l, mean over examples."""

    def top(nudges, x):
        visit = lambda x, parts, nudge: (sublayer(x + nudge, **parts), None)
        return walk(model.segments, params["stack"], x, visit, nudges)[0]

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
    found = jax.device_get(
        cases.jit(lambda p, b: jacobians.partial_jacobian(model, p, b, probes=48, key=0))(params, batch)
    )
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
    read = cases.jit(lambda p, b, key: jacobians.partial_jacobian(model, p, b, probes=3, key=key))
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
        jacobians.partial_jacobian(model, params, batch, probes=1)
