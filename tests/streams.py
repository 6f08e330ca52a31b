"""What the oracles compare: values and gradients of a model at every entry of its stream, and trees filled from tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradflow.instruments.backward import gradients
from gradflow.instruments.jacobians import jacobians
from gradflow.model.equation.sublayer import residual, walk, with_context
from gradflow.model.parameters.names import named
from gradflow.results.quantities import FACTORS, TERMS

CLOSE = 1e-10


def read(model, params, batch) -> dict:
    """Loss, the gradients of all parameters, and of every entry of the stream [S + 1, B, T, d]: no meter, one backward pass."""
    like = jax.eval_shape(jax.vmap(model.enter, (None, 0)), params, batch["inputs"])
    size = model.stack.size
    zeros = jnp.zeros((like.shape[0], size + 1, *like.shape[1:]), like.dtype)

    def nudged(params, nudges):
        visit = lambda x, parts, nudge: (residual(x + nudge, parts), None)

        def example(inputs, targets, nudges):
            own = with_context(model, params, inputs)
            x, _ = walk(model.stack, own["stack"], model.enter(params, inputs), visit, nudges[:-1])
            return model.loss(own, model.leave(own, x + nudges[-1]), targets)

        return jax.vmap(example)(batch["inputs"], batch["targets"], nudges).mean()

    loss, (grads, stream) = jax.value_and_grad(nudged, (0, 1))(params, zeros)
    return {"loss": loss, "grads": grads, "stream": jnp.moveaxis(stream, 1, 0)}


def dense(model, params, inputs) -> dict:
    """Dense Jacobians of all sublayers and their parts for one example, `{name: [S, outputs, inputs]}`; of one kind of stream."""
    own = with_context(model, params, inputs)
    visit = lambda x, parts, _: (residual(x, parts), jacobians.matrices(parts, x))
    return walk(model.stack, own["stack"], model.enter(params, inputs), visit)[1]


def assert_identities(model, params, batch):
    """The identities of the foundation, on a batch of one example, in float64."""
    batch = jax.tree.map(jnp.asarray, batch)
    alone = jax.tree.map(lambda a: a[0], batch["inputs"])
    everything = lambda p, b: (read(model, p, b), gradients.reading(model, p, b), dense(model, p, alone))
    found, reading, matrices = jax.device_get(jax.jit(everything)(params, batch))
    assert reading["loss"] == pytest.approx(found["loss"], rel=1e-13)
    g = found["stream"].reshape(len(found["stream"]), -1)
    sizes = np.linalg.norm(g, axis=1)
    np.testing.assert_allclose(reading["stream_gradient"], sizes, rtol=1e-9)
    factors = [FACTORS.index(name) for name in ("norm_out", "fork")]
    np.testing.assert_allclose(reading["budget"][:, factors].sum(), np.log(sizes[0] / sizes[-1]), atol=1e-9)
    np.testing.assert_allclose(reading["split"].sum(1), 1, atol=1e-12)
    for l, (whole, fork) in enumerate(zip(matrices["sublayer"], matrices["fork"], strict=True)):
        assert_close(whole.T @ g[l + 1], g[l], 1e-9)
        at_fork = matrices["norm_out"][l].T @ g[l + 1]
        np.testing.assert_allclose(
            reading["budget"][l, factors[0]], np.log(np.linalg.norm(at_fork) / sizes[l + 1]), atol=1e-9
        )
        assert_close(matrices["skip_term"][l] + matrices["branch_term"][l], fork, 1e-12)
        shares = [np.sum((matrices[term][l].T @ at_fork) ** 2) / sizes[l] ** 2 for term in ("skip_term", "branch_term")]
        np.testing.assert_allclose(reading["split"][l, [TERMS.index("skip"), TERMS.index("branch")]], shares, rtol=1e-9)


def filled(tree, table: dict):
    """`tree` with every leaf taken from `table`, by its name; all of the table is used."""
    names = list(named(tree))
    assert sorted(names) == sorted(table)
    for name, leaf in named(tree).items():
        assert np.shape(leaf) == np.shape(table[name]), name
    return jax.tree.unflatten(jax.tree.structure(tree), [jnp.asarray(np.asarray(table[name])) for name in names])


def assert_close(ours, theirs, close: float = CLOSE, least: float = 0.0):
    """Every entry to that share of the largest, or of `least`."""
    theirs = np.asarray(theirs)
    allowed = close * max(abs(theirs).max(), least)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=allowed)
