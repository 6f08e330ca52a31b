"""Jacobians of one sublayer as dense matrices, against autodiff."""

from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import distance

from gradflow.instruments.jacobians import jacobians
from gradflow.model.equation.sublayer import residual, walk


def small(wiring, branches=cases.TWO, depth: int = 2):
    """A model, its parameters, and a batch of two."""
    model = cases.model(wiring, depth, branches)
    return model, cases.drawn(model), cases.batch()


@cache
def by_autodiff(wiring):
    """Jacobian of each sublayer at the stream of the first example, by reverse mode, [S, outputs, inputs]."""
    model, params, batch = small(wiring)
    x = model.enter(params, batch["inputs"][0])
    visit = lambda x, parts, _: (residual(x, parts), jax.jacrev(lambda x: residual(x, parts))(x))
    return np.asarray(cases.jit(lambda p, x: walk(model.stack, p, x, visit)[1])(params["stack"], x)).reshape(
        4, x.size, x.size
    )


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
    with pytest.raises(
        ValueError, match=r"Jacobian of 2049 .* beyond 2048: .*`spectrum` and `partial_jacobian`"
    ) as error:
        jacobians.matrices(parts, jnp.ones((3, 683)))
    assert "\n" not in str(error.value)
    assert jacobians.matrices(parts, jnp.ones((1, 3)))["sublayer"].tolist() == (2 * np.eye(3)).tolist()
