"""Both ends: tables that are added up, a readout that is tied, and what stands in front of either."""

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import distance

import gradflow as gf
from gradflow.model.branches.branch import Dense
from gradflow.model.layers.lanes import Then
from gradflow.model.layers.norms import LayerNorm
from gradflow.model.parameters.initializers import FanIn
from gradflow.model.parameters.names import outer_names
from gradflow.model.stacks.embedding_readout import Embedding, Readout
from gradflow.model.stacks.transformer import Transformer
from gradflow.results.configuration import dumps, loads

TOKENS = jnp.array([3, 1, 3])
EXACT = 1e-12
HEAD = Readout(bias=True, before=Then((Dense(activation="gelu"), LayerNorm())), softcap=2.0)


def model(embedding, readout) -> Transformer:
    """One block around these ends."""
    stack = gf.transformer("pre", depth=1, width=8, heads=2).stack
    return Transformer(stack, 8, embedding, readout)


def drawn(embedding, width=8):
    """Tables in float64."""
    return cases.float64(embedding.init(jax.random.key(0), width))


def test_the_bottom_of_the_stream_is_the_sum_of_the_rows():
    embedding = Embedding(11, 5, first=2, types=3)
    params = drawn(embedding)
    token, position, kind = (np.asarray(params[n].embedding[...]) for n in ("token", "position", "type"))
    assert (token.shape, position.shape, kind.shape) == ((11, 8), (7, 8), (3, 8))
    assert distance(embedding(params, TOKENS), token[TOKENS] + position[2:5] + kind[0]) < EXACT
    with pytest.raises(ValueError, match="6 tokens, but the model has learned 5 positions"):
        embedding(params, jnp.zeros(6, int))


def test_narrow_rows_go_through_a_matrix_before_positions_are_added():
    embedding = Embedding(11, 5, features=3)
    params = drawn(embedding)
    assert params["token"].embedding.shape == (11, 3)
    table, matrix = params["token"].embedding[...], params["project"].kernel[...]
    assert distance(embedding(params, TOKENS), table[TOKENS] @ matrix + params["position"].embedding[:3]) < EXACT


def test_a_row_of_each_kind_has_the_rms_that_was_asked_for():
    embedding = Embedding(500, 500, rms=3.0, types=1)
    params = embedding.init(jax.random.key(0), 64)
    sum_of_squares = sum(float(jnp.mean(params[n].embedding[...] ** 2)) for n in ("token", "position"))
    assert sum_of_squares == pytest.approx(9 * 2 / 3, rel=0.05)


def test_a_tied_readout_is_the_table_and_both_uses_train_it():
    tied = model(Embedding(11, None), Readout())
    params = cases.float64(tied.init(0))
    assert outer_names(params) == ["token", "leave.bias", "leave.scale"]
    out = cases.normal(3, 8)
    table = params["embedding"]["token"].embedding[...]
    assert distance(tied.logits(params, out), out @ table.T) < EXACT

    def loss(params):
        return tied.loss(params, tied.leave(params, tied.enter(params, TOKENS)), TOKENS)

    grad = jax.grad(loss)(params)["embedding"]["token"].embedding[...]
    assert (np.abs(grad).sum(1) > 0).all()  # by the readout of every row, also of those that no token has


@pytest.mark.promotes
def test_the_head_before_a_readout_its_bias_and_its_cap_are_applied_in_this_order():
    own = model(Embedding(11, None), HEAD)
    params = cases.drawn(own)
    out, head = cases.normal(3, 8), params["readout"]
    dense, norm = head["before"]["1"]["dense"], head["before"]["2"]
    hidden = jax.nn.gelu(out @ dense.kernel[...] + dense.bias[...], approximate=False)
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / jnp.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
    hidden = hidden * norm.scale[...] + norm.bias[...]
    logits = hidden @ params["embedding"]["token"].embedding[...].T + head["bias"]
    assert distance(own.logits(params, out), 2 * jnp.tanh(logits / 2)) < EXACT
    assert loads(dumps(own)) == own


def test_narrow_rows_are_read_out_through_a_matrix_back():
    narrow = model(Embedding(11, None, features=3), Readout(before=Dense(3, bias=False)))
    assert narrow(narrow.init(0), TOKENS).shape == (3, 11)
    own = model(Embedding(11, None), Readout(FanIn(), bias=True))
    assert outer_names(own.init(0))[-2:] == ["readout.bias", "readout.matrix"]


@pytest.mark.parametrize(
    ("embedding", "readout", "message"),
    [
        (Embedding(11, None), Readout(), "untied|readout of its own"),
        (Embedding(11, None, features=3), FanIn(), "no theory of a matrix between token rows and the stream"),
    ],
)
def test_theory_refuses_ends_that_it_does_not_know(embedding, readout, message):
    batch = cases.batch(tokens=4)
    with pytest.raises((ValueError, NotImplementedError), match=message):
        gf.predict(model(embedding, readout), batch)
