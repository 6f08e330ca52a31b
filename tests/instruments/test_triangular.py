"""Block triangular maps: their volume and inverse, against NumPy's of the matrix."""

from functools import partial

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.jacobians import triangular
from gradflow.instruments.jacobians.krylov import Krylov, estimated
from gradflow.instruments.jacobians.operators import Operator, operators
from gradflow.instruments.jacobians.spaces import NORMALS, Space, everything
from gradflow.model.branches.attention import Attention
from gradflow.model.branches.latent import LatentAttention
from gradflow.model.equation.sublayer import PARTS
from gradflow.model.layers.layer import ALL, PAST, Identity
from gradflow.model.layers.norms import LayerNorm
from gradflow.model.parameters.keys import at

TOKENS, FEATURES = 6, 8
SIZE = TOKENS * FEATURES
# normals a token of domain and range
SPACES = {"all": (0, 0), "alike": (2, 2), "one more": (2, 1), "tall": (2, 0), "wide": (0, 2)}


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
    rank = SIZE - jnp.maximum(*(jnp.round(jnp.sum(space**2)).astype(int) for space in (domain, range_)))
    like = jax.ShapeDtypeStruct((TOKENS, FEATURES), matrix.dtype)
    op = Operator(
        lambda v: (matrix @ v.ravel()).reshape(v.shape), like, Space(domain), Space(range_), rank, couples, ("branch",)
    )
    if krylov:
        return estimated(op, jax.random.key(0), SIZE, krylov)
    log_volume, inverse = triangular.inverse(op, 3.0)
    up = inverse.up(b.reshape(TOKENS, FEATURES))
    return log_volume, up.ravel(), inverse.down(up).ravel(), triangular.fits(op), triangular.bound(op)


def between(matrix, domain, range_):
    """The matrix from one space to the other, [n, n]."""
    into, onto = complement(domain), complement(range_)
    return onto @ onto.T @ matrix @ into @ into.T


def singular_values(matrix, domain, range_):
    """Those of the matrix from one space to the other."""
    return np.linalg.svd(complement(range_).T @ matrix @ complement(domain), compute_uv=False)


@pytest.mark.parametrize("largest", [FEATURES, 2 * FEATURES, SIZE])
@pytest.mark.parametrize("spaces", SPACES)
def test_volume_and_pseudoinverse_are_those_of_the_matrix_between_the_spaces(spaces, largest, monkeypatch):
    monkeypatch.setattr(triangular, "LARGEST", largest)
    read.clear_cache()
    lost, missed = SPACES[spaces]
    matrix, domain, range_ = past_alone(), normals(lost, 1), normals(missed, 2)
    smaller = complement(range_ if spaces == "wide" else domain)
    b = smaller @ np.random.default_rng(3).normal(size=smaller.shape[1])
    log_volume, up, down, fits, bound = jax.device_get(read(matrix, domain, range_, b))
    values = singular_values(matrix, domain, range_)
    assert fits
    assert log_volume == pytest.approx(np.log(values).sum(), rel=1e-10)
    inverse = np.linalg.pinv(between(matrix, domain, range_), rcond=1e-8)
    transposed = inverse if spaces == "wide" else inverse.T
    np.testing.assert_allclose(up, transposed @ b, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(down, transposed.T @ transposed @ b, rtol=1e-8, atol=1e-10)
    assert bound == np.inf if spaces == "wide" else bound >= values.min()


def test_of_a_map_to_all_tokens_one_block_is_taken():
    matrix, none = np.random.default_rng(0).normal(size=(SIZE, SIZE)), normals(0, 1)
    log_volume, _, _, fits, _ = jax.device_get(read(matrix, none, none, np.zeros(SIZE), couples=ALL))
    assert fits
    assert log_volume == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-10)


def test_spaces_of_which_neither_is_the_smaller_at_every_token_do_not_fit():
    some = normals(2, 1) * (np.arange(TOKENS) < 2)[:, None, None]
    others = normals(2, 2) * (np.arange(TOKENS) > 2)[:, None, None]
    assert not read(past_alone(), some, others, np.zeros(SIZE))[3]


def test_a_token_alone_cannot_be_smaller_than_what_rounding_leaves():
    """The last token's own block is nothing to rounding: it is said without solving, and no number hangs on it."""
    matrix, none = past_alone(), normals(0, 1)
    matrix[-FEATURES:, -FEATURES:] *= 1e-15
    found = jax.device_get(read(matrix, none, none, np.zeros(SIZE), Krylov(probes=2, iterations=2, solves=24)))
    for name in ("log_volume", "smallest_singular_value", "condition_number"):
        assert np.isnan(found[name])


@pytest.mark.parametrize("branch", [Attention(2, window=3), LatentAttention(2, query_rank=6, key_value_rank=6)])
@pytest.mark.parametrize("name", ["branch", "sublayer"])
def test_the_blocks_of_what_a_layer_is_to_groups_alone_are_those_of_the_matrix(branch, name, monkeypatch):
    monkeypatch.setattr(triangular, "LARGEST", 2 * FEATURES)
    layers = {**dict.fromkeys(PARTS, Identity()), "norm_in": LayerNorm(), "branch": branch}
    params = {part: layer.init(at(jax.random.key(0), part), FEATURES) for part, layer in layers.items()}
    x = cases.normal(TOKENS, FEATURES)

    @cases.jit
    def both(params, x):
        op = operators(layers, params, x, everything(x))[2][name]
        return triangular.diagonal_blocks(op), triangular.diagonal_blocks(op._replace(push_within=None))

    grouped, whole = jax.device_get(both(cases.float64(params), x))
    assert len(grouped) == TOKENS // 2
    np.testing.assert_allclose(grouped, whole, atol=1e-12)
    assert np.abs(whole).max() > 0.1


@pytest.mark.parametrize("spaces", ["alike", "tall", "wide"])
def test_both_ends_of_the_spectrum_are_read_from_it(spaces):
    lost, missed = SPACES[spaces]
    matrix, domain, range_ = past_alone(), normals(lost, 1), normals(missed, 2)
    values = singular_values(matrix, domain, range_)
    krylov = Krylov(probes=2, iterations=2, solves=24)  # far too few for a volume from probes
    found = jax.device_get(read(matrix, domain, range_, np.zeros(SIZE), krylov))
    assert found["smallest_singular_value"] == pytest.approx(values.min(), rel=1e-8)
    assert found["log_volume"] == pytest.approx(np.log(values).sum(), rel=1e-10)
    assert 0 < found["log_volume_sem"] < 1e-8
    assert found["smallest_singular_value_sem"] < 1e-6


def test_in_float32_both_are_those_of_float64_within_the_error_that_is_said():
    matrix, domain, range_ = past_alone(), normals(2, 1), normals(2, 2)
    values = singular_values(matrix, domain, range_)
    single = [a.astype(np.float32) for a in (matrix, domain, range_, np.zeros(SIZE))]
    found = jax.device_get(read(*single, Krylov(probes=2, iterations=2, solves=24)))
    truth = {"log_volume": np.log(values).sum(), "smallest_singular_value": values.min()}
    for name, value in truth.items():
        assert found[name].dtype == np.float32
        assert abs(found[name] - value) < found[f"{name}_sem"] < 1e-2 * abs(value)
