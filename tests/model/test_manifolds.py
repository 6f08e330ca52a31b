"""Sets of matrices between lanes, and lanes that are gated: on their sets wherever the stream is, and as transformers has them.

That wirings made of them equal their papers' formulas is shown in test_equation.py.
"""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.model.layers.feature_gates import Cut, GatedWrite, SharingRead
from gradflow.model.layers.manifolds import Balanced, Kronecker, Opened, Permuted, Rotated, Spread
from gradflow.model.layers.norms import RMSNorm

SUMS_TO_ONE = {"permuted": Permuted(4), "kronecker": Kronecker(4), "balanced": Balanced(4)}


def anywhere(layer, x):
    """M(x) by token, of parameters that are far from their start."""
    params = jax.tree.map(
        lambda a: a + cases.normal(*a.shape), cases.float64(layer.init(jax.random.key(0), x.shape[-1]))
    )
    return params, np.asarray(layer.by_token(params, x))


@pytest.mark.parametrize("name", SUMS_TO_ONE)
def test_rows_and_columns_sum_to_one_wherever_the_stream_is(name):
    _, found = anywhere(SUMS_TO_ONE[name], cases.normal(4, 7, 5, seed=3))
    assert np.ptp(found, axis=0).max() > 1e-3  # each token has its own
    exact = 1e-5 if name == "balanced" else 1e-12
    np.testing.assert_allclose(found.sum(-1), 1, rtol=exact)
    np.testing.assert_allclose(found.sum(-2), 1, rtol=0.2 if name == "balanced" else exact)
    assert found.min() > 0


def test_a_rotation_is_orthogonal_wherever_the_stream_is():
    _, found = anywhere(Rotated(4), cases.normal(4, 7, 5, seed=3))
    np.testing.assert_allclose(found @ found.swapaxes(1, 2), np.broadcast_to(np.eye(4), (7, 4, 4)), atol=1e-12)
    assert np.ptp(found, axis=0).max() > 1e-3


def test_where_they_start_they_keep_the_lanes():
    for layer, off in ((Permuted(4), 0.01), (Kronecker(4), 0.001), (Rotated(4), 1e-12)):
        params = cases.float64(layer.init(jax.random.key(0), 5))
        np.testing.assert_allclose(layer.numbers(params, 4, float), np.eye(4), atol=off)
    np.testing.assert_allclose(Balanced(4).numbers({"bias": np.zeros(16)}, 4, float), 0.25, rtol=1e-5)


def test_impossible_lanes_are_refused():
    with pytest.raises(ValueError, match="a power of two is needed"):
        Kronecker(6)
    with pytest.raises(ValueError, match="a width of 6 can't be cut into 4 fractions"):
        Cut(4).init(None, 6)


def as_torch(a):
    torch = pytest.importorskip("torch")
    return torch.tensor(np.array(a, np.float64))


def test_the_gains_of_deepseek_v4_are_those_of_transformers():
    module = pytest.importorskip("transformers.models.deepseek_v4.modeling_deepseek_v4")
    config = pytest.importorskip("transformers.models.deepseek_v4.configuration_deepseek_v4")
    x = cases.normal(4, 6, 8)
    (skip, mix), (read, pre), (write, post) = (
        anywhere(layer, x) for layer in (Balanced(4), Opened(4, alpha=1.0, least=1e-6), Spread(4, alpha=1.0))
    )
    theirs = module.DeepseekV4HyperConnection(config.DeepseekV4Config(hidden_size=8, hc_mult=4)).double()
    parts = (read, write, skip)
    flat = [np.asarray(p["weights"]).reshape(32, -1).T for p in parts]
    theirs.fn.data, theirs.base.data = (
        as_torch(np.concatenate(flat)),
        as_torch(np.concatenate([p["bias"] for p in parts])),
    )
    theirs.scale.data = as_torch([p["scale"] for p in parts])
    theirs.float = lambda: theirs
    streams = as_torch(x).transpose(0, 1)[None].contiguous()
    their_post, comb, collapsed = theirs(streams)  # its weights are used in float32
    np.testing.assert_allclose(post, their_post[0].detach(), rtol=2e-5)
    np.testing.assert_allclose(mix, comb[0].transpose(-1, -2).detach(), rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(np.einsum("tj,jtf->tf", pre, x), collapsed[0].detach(), rtol=2e-4, atol=1e-5)


def test_the_gated_residual_is_that_of_transformers():
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.models.qwen4_exp.modeling_qwen4_exp")
    x, norm = cases.normal(4, 6, 8), RMSNorm(scale="one_plus")
    read, write = SharingRead(4, 3, norm), GatedWrite(4, 3, norm)
    params = jax.tree.map(lambda a: a + 0.3 * cases.normal(*a.shape), cases.float64(read.init(jax.random.key(0), 8)))

    class Sizes:
        hc_count, hidden_size, hc_lowrank, rms_norm_eps = 4, 8, 3, 1e-6

    theirs = module.Qwen4ExpTextGatedResidual(Sizes()).double()
    gains = [np.asarray(params["norm"][str(i)].scale[...]) for i in range(4)]
    theirs.hc_norm.weight.data = as_torch(np.concatenate(gains))
    theirs.input_mix_weight_down.weight.data = as_torch(np.asarray(params["down"]).reshape(32, 3).T)
    theirs.input_mix_weight_up.weight.data = as_torch(np.asarray(params["up"]).reshape(3, 32).T)
    theirs.block_inject_weight.weight.data = as_torch(np.asarray(params["inject"]).reshape(32, 4).T)
    streams = torch.cat(list(as_torch(x)), -1)[None]
    mixed, _, shares = theirs(streams)
    np.testing.assert_allclose(read(params, x), mixed[0].detach(), rtol=2e-5, atol=1e-6)  # their norm is in float32
    own = write.at_stream(params, x)(jnp.ones((6, 1)))[..., 0].T
    np.testing.assert_allclose(own, shares[0].detach(), rtol=2e-5)
