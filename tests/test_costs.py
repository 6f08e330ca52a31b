"""Costs: operations are those that a program does, whatever stands around them; a call's cost is its programs'."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh

import gradflow as gf
from gradflow.compiling.operations import OVERHEAD, SHARED, UNKNOWN, Operations, Speed, operations
from gradflow.costs import Cost

DATA = gf.data.text(context=8, batch=2)
MODELS = gf.transformers("pre", "post", depth=2, width=8, heads=2)


def counted(function, *arguments) -> Operations:
    return operations(jax.jit(function).trace(*arguments).jaxpr)


def test_products_and_entries_are_counted_through_every_kind_of_loop():
    x, w = jnp.ones((3, 4)), jnp.ones((4, 4))
    once = counted(lambda x: x @ w + 1, x)
    assert once == Operations(3 * 4 * 4, 3 * 4, 2)
    in_a_scan = counted(lambda x: jax.lax.scan(lambda x, _: (x @ w + 1, None), x, length=7)[0], x)
    assert in_a_scan == Operations(7 * 48, 7 * 12, 2)
    mapped = counted(jax.checkpoint(jax.vmap(lambda x: x @ w + 1)), jnp.ones((5, 3, 4)))
    assert mapped.products == 5 * 48
    unknown = counted(lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ w, x), x)
    assert unknown.products == UNKNOWN * 48
    at_most = lambda carry: (carry[0] < 6) & (carry[1].sum() < 9)
    bounded = counted(lambda x: jax.lax.while_loop(at_most, lambda carry: (carry[0] + 1, carry[1] @ w), (0, x)), x)
    assert bounded.products == 6 * 48
    either = counted(lambda x: jax.lax.cond(x.sum() < 9, lambda x: x @ w @ w, lambda x: x @ w, x), x)
    assert either.products == 1.5 * 48


def test_what_runs_more_often_is_compiled_once():
    assert Operations(2.0, 3.0, 4).times(5) == Operations(10.0, 15.0, 4)
    speed = Speed(1.0, 10.0, 100.0)
    assert speed.running(Operations(2.0, 3.0, 4)) == OVERHEAD * 32.0
    assert speed.compiling(Operations(2.0, 3.0, 4)) == SHARED * 400.0


def test_a_call_costs_what_its_parts_cost():
    """Nothing is compiled but what is timed once; twice the seeds run twice as long, and as long to compile."""
    few, many = (gf.cost(gf.measure, MODELS, DATA, seeds=seeds) for seeds in (2, 4))
    assert many.running == pytest.approx(2 * few.running, rel=0.2)
    assert many.compiling == pytest.approx(few.compiling, rel=0.05)
    assert many.bytes == 2 * few.bytes
    one = gf.cost(gf.measure, MODELS["pre"], DATA, seeds=2)
    assert 0 < one.running < few.running
    swept = gf.cost(gf.sweep, {"pre": MODELS["pre"]}, DATA, depth=(2, 4), seeds=2)
    assert swept.running > 2 * one.running
    some, more, most = (
        gf.cost(gf.train, MODELS, DATA, gf.Recipe(), steps=n, seeds=2, record=(0,)) for n in (10, 20, 30)
    )
    assert most.running - more.running == pytest.approx(more.running - some.running, rel=1e-6)
    assert some.running > 0
    assert gf.cost(gf.predict, MODELS, DATA, draws=2, replicas=2).running > 0


def test_a_device_of_a_mesh_that_is_not_here_holds_its_share():
    def held(**mesh: int) -> float:
        on = AbstractMesh(tuple(mesh.values()), tuple(mesh))
        return gf.cost(gf.measure, MODELS["pre"], DATA, seeds=2, mesh=on).bytes

    assert held(seed=2) == held(seed=1) / 2
    assert held(model=2) == held(seed=2)  # all last axes are even
    assert held(seed=2) < held(example=2) < held(seed=1)  # weights are whole
    with pytest.raises(ValueError, match="an axis 'data': its axes are"):
        held(data=2)
    with pytest.raises(ValueError, match="a prediction are not planned by device: leave out the mesh"):
        gf.cost(gf.predict, MODELS, DATA, mesh=AbstractMesh((2,), ("seed",)))


def test_a_cost_in_words_and_what_has_none():
    assert str(Cost(3.21, 10.1, 2e8)) == "about 13 s, of them 10 s of compiling; 200 MB"
    with pytest.raises(TypeError, match="is not estimated: give gf.measure, gf.predict, gf.train or gf.sweep"):
        gf.cost(print, MODELS, DATA)
