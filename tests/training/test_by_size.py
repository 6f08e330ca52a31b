"""CompleteP: rates, ε and decay against the formulas of the paper, and against optax and torch group by group."""

import cases
import jax
import numpy as np
import optax
import pytest

import gradflow as gf
from gradflow.training.by_size import CompleteP
from gradflow.training.optimizers import Adam

SHAPE = {"width": 8, "heads": 2, "context": 6, "vocabulary": 11}
RULE = CompleteP(width=4, depth=8, alpha=0.75, weight_decay=0.1, base_eps=1e-3)


def weights():
    """Weights of a small stack, a gradient of each, and what one step of a rule makes of them."""
    model = gf.transformer("pre", depth=3, **SHAPE)
    params = cases.drawn(model)
    return params, jax.tree.map(lambda a: cases.normal(*a.shape, seed=7), params)


def stepped(rule: optax.GradientTransformation, params, grads):
    return jax.tree_util.tree_leaves_with_path(rule.update(grads, rule.init(params), params)[0])


def test_a_step_is_that_of_adam_with_the_rate_the_eps_and_the_decay_of_its_group():
    params, grads = weights()
    eps = 1e-3 / 4 * 8**-0.75
    groups = {
        "matrix": (8**-0.25 / 4, 0.1 * 4),
        "vector": (8**-0.25, 0.0),
        "outer matrix": (1.0, 0.1),
        "outer vector": (1.0, 0.0),
    }
    by_group = {
        name: dict(stepped(optax.adamw(1.0, b2=0.95, eps=eps, weight_decay=decay), params, grads))
        for name, (_, decay) in groups.items()
    }
    assert RULE.eps == pytest.approx(eps)
    seen = set()
    for path, update in stepped(RULE.direction(), params, grads):
        where = jax.tree_util.keystr(path)
        inside = where.startswith("['stack']")
        kind = "matrix" if update.ndim > (2 if inside else 1) else "vector"
        group = kind if inside else f"outer {kind}"
        seen.add(group)
        np.testing.assert_allclose(update, groups[group][0] * by_group[group][path], rtol=1e-12, err_msg=where)
    assert seen == set(groups)


def test_at_the_size_of_its_base_it_is_adam():
    params, grads = weights()
    base = gf.transformer("pre", depth=3, **SHAPE)
    rule = CompleteP.of(base, base, b2=0.999, base_eps=1e-8)
    for one, other in zip(
        stepped(rule.direction(), params, grads), stepped(Adam().direction(), params, grads), strict=True
    ):
        np.testing.assert_allclose(one[1], other[1], rtol=1e-12)


def test_depth_mup_is_its_power_one_half():
    model, base = (gf.transformer("pre", depth=depth, **SHAPE) for depth in (8, 2))
    rule = CompleteP.of(model, base, alpha=0.5)
    path = (jax.tree_util.DictKey("stack"),)
    assert (rule.width, rule.depth) == (1, 4)
    assert rule.factors(path, np.ones((8, 3, 3))) == (4**-0.5, 0)
    assert CompleteP.of(model, base).factors(path, np.ones((8, 3, 3))) == (1, 0)
    assert gf.Recipe(rule).eps == pytest.approx(1e-12 / 2)


def test_impossible_powers_are_refused():
    with pytest.raises(ValueError, match="alpha is 0.3: a power from 0.5, depth-µP, to 1, CompleteP"):
        CompleteP(alpha=0.3)
    with pytest.raises(ValueError, match="width"):
        CompleteP(width=0)
