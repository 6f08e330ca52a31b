"""Block triangular maps: their volume and inverse, against NumPy's of the matrix."""

from functools import partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.jacobians import triangular
from gradflow.instruments.jacobians.krylov import Krylov, estimated
from gradflow.instruments.jacobians.operators import Operator
from gradflow.instruments.jacobians.spaces import NORMALS
from gradflow.model.layers.layer import ALL, PAST

TOKENS, FEATURES = 6, 8
SIZE = TOKENS * FEATURES
SPACES = {"all": (0, 0), "alike": (2, 2), "one more": (2, 1), "tall": (2, 0)}  # normals a token of domain and range


def past_alone(seed: int = 0):
    """A matrix [n, n] of which row t of blocks reads the tokens up to t."""
    rng = np.random.default_rng(seed)
    blocks = rng.normal(size=(TOKENS, FEATURES, TOKENS, FEATURES)) / FEATURES**0.5
    seen = np.tril(np.ones((TOKENS, TOKENS)))
    return (blocks * seen[:, None, :, None]).reshape(SIZE, SIZE) + 2 * np.eye(SIZE)


def normals(number: int, seed: int):
    """Orthonormal columns [T, c, K], of which `number` are not zero."""
    drawn = np.random.default_rng(seed).normal(size=(TOKENS, FEATURES, NORMALS))
    columns, _ = np.linalg.qr(drawn)
    return columns * (np.arange(NORMALS) < number)


def complement(columns):
    """An orthonormal basis [n, r] of what is orthogonal to the normals of all tokens."""
    bases = []
    for token, of_token in enumerate(columns):
        left, values, _ = np.linalg.svd(of_token)
        rank = int(np.sum(values > 0.5))
        basis = np.zeros((TOKENS, FEATURES, FEATURES - rank))
        basis[token] = left[:, rank:]
        bases.append(basis.reshape(SIZE, -1))
    return np.concatenate(bases, axis=1)


@partial(cases.jit, static_argnames=("krylov", "couples"))
def read(matrix, domain, range_, b, krylov=None, couples=PAST):
    rank = SIZE - jnp.round(jnp.sum(domain**2)).astype(int)
    like = jax.ShapeDtypeStruct((TOKENS, FEATURES), matrix.dtype)
    op = Operator(lambda v: (matrix @ v.ravel()).reshape(v.shape), like, domain, range_, rank, couples, ("branch",))
    if krylov:
        return estimated(op, jax.random.key(0), SIZE, krylov)
    exact = triangular.inverse(op, 3.0)
    return exact.log_volume, exact.apply(b.reshape(TOKENS, FEATURES)).ravel(), triangular.fits(op)


@pytest.mark.parametrize("largest", [FEATURES, 2 * FEATURES, SIZE])
@pytest.mark.parametrize("spaces", SPACES)
def test_volume_and_inverse_are_those_of_the_matrix_between_the_spaces(spaces, largest, monkeypatch):
    monkeypatch.setattr(triangular, "LARGEST", largest)
    read.clear_cache()
    lost, missed = SPACES[spaces]
    matrix, domain, range_ = past_alone(), normals(lost, 1), normals(missed, 2)
    basis = complement(domain)
    onto = complement(range_)
    between = onto @ onto.T @ matrix @ basis
    b = basis @ np.random.default_rng(3).normal(size=basis.shape[1])
    log_volume, solved, fits = jax.device_get(read(matrix, domain, range_, b))
    assert fits
    assert log_volume == pytest.approx(np.log(np.linalg.svd(between, compute_uv=False)).sum(), rel=1e-10)
    expected = basis @ np.linalg.solve(between.T @ between, basis.T @ b)
    np.testing.assert_allclose(solved, expected, rtol=1e-8, atol=1e-10)


def test_a_larger_domain_or_a_look_ahead_does_not_fit():
    matrix, none, two = past_alone(), normals(0, 1), normals(2, 2)
    assert not read(matrix, none, two, np.zeros(SIZE))[2]
    assert not read(matrix, none, none, np.zeros(SIZE), couples=ALL)[2]


@pytest.mark.parametrize("spaces", ["alike", "tall"])
def test_both_ends_of_the_spectrum_are_read_from_it(spaces):
    lost, missed = SPACES[spaces]
    matrix, domain, range_ = past_alone(), normals(lost, 1), normals(missed, 2)
    onto = complement(range_)
    values = np.linalg.svd(onto.T @ matrix @ complement(domain), compute_uv=False)
    krylov = Krylov(probes=2, iterations=2, solves=24)  # far too few for a volume from probes
    found = jax.device_get(read(matrix, domain, range_, np.zeros(SIZE), krylov))
    assert found["smallest_singular_value"] == pytest.approx(values.min(), rel=1e-8)
    assert found["log_volume"] == pytest.approx(np.log(values).sum(), rel=1e-10)
    assert 0 < found["log_volume_sem"] < 1e-8
    assert found["smallest_singular_value_sem"] < 1e-6
