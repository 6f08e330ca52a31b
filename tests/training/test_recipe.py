"""Recipes: every named optimizer is that of its name, at a rate that is a number of the step; clipping; what is refused."""

import json
from dataclasses import dataclass, replace

import cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradflow.results import configuration
from gradflow.training import recipe
from gradflow.training.optimizers import OPTIMIZERS, SGD, Adam, Lion, Muon, Noise, RMSProp
from gradflow.training.recipe import SCHEDULES, Recipe

STEPS, LAYERS = 5, 3
CLOSE = {"rtol": 2e-6, "atol": 1e-7}  # float32
muon_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax's own, in Muon


def tree(seed: int, *leading: int):
    """Two matrices and a bias, stacked over layers, and an embedding, float32."""
    shapes = {"up": (LAYERS, 4, 6), "down": (LAYERS, 6, 4), "bias": (LAYERS, 6)}
    draw = lambda i, shape: cases.normal(*leading, *shape, seed=10 * seed + i).astype(jnp.float32)
    stack = {name: draw(i, shape) for i, (name, shape) in enumerate(shapes.items())}
    return {"embedding": draw(3, (7, 4)), "stack": ({"mlp": stack},)}


START, GRADS = tree(1), tree(2, STEPS)  # gradients of every step


def ours(own: Recipe):
    """The weights after every step: W + rate · direction, as `Step` has it."""

    def one(params, state, grads, rate):
        direction, state = own.direction().update(grads, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: rate * u, direction)), state

    return through(one, own.direction().init(START), START, GRADS, own.rates(STEPS))


def theirs(optimizer, start=START, grads=GRADS):
    """The same of an optax optimizer that has its own rate."""

    def one(params, state, grads, _):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return through(one, optimizer.init(start), start, grads, np.zeros(STEPS))


def through(one, state, params, grads, rates):
    def body(carry, now):
        carry = one(*carry, *now)
        return carry, carry[0]

    return cases.jit(lambda *start: jax.lax.scan(body, start, (grads, jnp.asarray(rates)))[1])(params, state)


def assert_close(a, b, **tolerance):
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, err_msg=jax.tree_util.keystr(path), **(tolerance or CLOSE))


# ---- optimizers ---------------------------------------------------------------------------------------------

OPTAX = {
    "adam": (Recipe("adam"), optax.adam),
    "adam of other constants": (
        Recipe(Adam(b1=0.8, b2=0.95, eps=1e-3)),
        lambda rate: optax.adam(rate, b1=0.8, b2=0.95, eps=1e-3),
    ),
    "adamw": (Recipe("adamw"), lambda rate: optax.adamw(rate, weight_decay=0.01)),
    "lion": (Recipe("lion"), lambda rate: optax.lion(rate, weight_decay=0.0)),
    "lion that decays": (Recipe(Lion(weight_decay=0.1)), lambda rate: optax.lion(rate, weight_decay=0.1)),
    "rmsprop": (Recipe("rmsprop"), lambda rate: optax.rmsprop(rate, eps_in_sqrt=False)),
    "sgd": (Recipe("sgd"), optax.sgd),
    "momentum": (Recipe(SGD(0.9)), lambda rate: optax.sgd(rate, momentum=0.9)),
    "nesterov": (Recipe(SGD(0.9, nesterov=True)), lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True)),
}


@pytest.mark.parametrize("name", OPTAX)
def test_an_optimizer_at_a_rate_through_time_is_optaxs_with_that_schedule(name):
    own, make = OPTAX[name]
    own = replace(own, lr=0.03, warmup=2, schedule="linear")
    rates = jnp.asarray(own.rates(STEPS))
    assert_close(ours(own), theirs(make(lambda step: rates[step])))


@muon_warns
def test_muon_is_optaxs_of_each_layers_matrix_alone_and_adam_of_all_else():
    """Biases and the embedding, a matrix outside the stack, get Adam; Nesterov's, as optax has it in Muon."""
    found = ours(Recipe("muon", lr=0.02))
    stack, grads = START["stack"][0]["mlp"], GRADS["stack"][0]["mlp"]
    for name in ("up", "down"):
        for l in range(LAYERS):
            alone = theirs(optax.contrib.muon(0.02), {name: stack[name][l]}, {name: grads[name][:, l]})
            assert_close(found["stack"][0]["mlp"][name][:, l], alone[name], rtol=1e-4, atol=1e-6)
    rest = lambda tree: {"embedding": tree["embedding"], "bias": tree["stack"][0]["mlp"]["bias"]}
    adam = optax.adamw(0.02, weight_decay=0.0, nesterov=True)
    assert_close(rest(found), theirs(adam, rest(START), rest(GRADS)))


@muon_warns
def test_muons_first_direction_of_a_layer_is_near_orthogonal():
    """Of small gradients too: their size does not matter, their directions do. Newton-Schulz stops near 1."""
    rule = Muon().direction()
    small = jax.tree.map(lambda g: 1e-5 * g[0], GRADS)
    update = cases.jit(lambda g: rule.update(g, rule.init(START), START)[0])(small)["stack"][0]["mlp"]
    for name, scale in (("up", 1.5**0.5), ("down", 1.0)):  # times √(outputs/inputs) where that is above 1
        values = np.linalg.svd(update[name], compute_uv=False) / scale
        assert values.min() > 0.5
        assert values.max() < 1.3


# ---- noise --------------------------------------------------------------------------------------------------


def test_noise_has_the_size_of_every_weight_layer_by_layer_and_another_draw_at_every_step():
    """At rate 0.01 a weight changes by 1% of itself, whatever the gradient; a weight of zero stays."""
    shapes = {"w": (LAYERS, 40, 50), "zero": (LAYERS, 5)}
    stack = {name: cases.normal(*shape).astype(jnp.float32) for name, shape in shapes.items()}
    stack["w"] *= jnp.array([1e-3, 1.0, 1e3])[:, None, None].astype(jnp.float32)
    params = {"embedding": cases.normal(30, 70).astype(jnp.float32), "stack": {**stack, "zero": 0 * stack["zero"]}}
    rule = Recipe(Noise()).direction()
    draw = cases.jit(lambda g, state: rule.update(g, state, params))
    first, state = draw(params, rule.init(params))
    again, _ = draw(jax.tree.map(jnp.zeros_like, params), rule.init(params))
    second, _ = draw(params, state)
    z = lambda found, w: np.asarray(found) / np.sqrt(np.mean(np.square(w)))
    for l in range(LAYERS):
        entries = z(first["stack"]["w"][l], stack["w"][l])
        assert abs(entries.mean()) < 4 / entries.size**0.5
        assert abs(entries.std() - 1) < 4 / (2 * entries.size) ** 0.5
    assert abs(z(first["embedding"], params["embedding"]).std() - 1) < 4 / (2 * 2100) ** 0.5
    assert (first["stack"]["zero"] == 0).all()
    np.testing.assert_array_equal(first["embedding"], again["embedding"])
    assert abs(np.corrcoef(np.ravel(first["embedding"]), np.ravel(second["embedding"]))[0, 1]) < 4 / 2100**0.5


# ---- an independent library ---------------------------------------------------------------------------------


TORCH = {
    "adam": (Recipe("adam"), lambda torch, p: torch.optim.Adam(p, 0.03)),
    "adamw": (Recipe("adamw"), lambda torch, p: torch.optim.AdamW(p, 0.03, weight_decay=0.01)),
    "rmsprop": (Recipe("rmsprop"), lambda torch, p: torch.optim.RMSprop(p, 0.03, alpha=0.9)),
    "momentum": (Recipe(SGD(0.9)), lambda torch, p: torch.optim.SGD(p, 0.03, momentum=0.9)),
}


@pytest.mark.parametrize("name", TORCH)
def test_an_optimizer_is_torchs_of_that_name(name):
    torch = pytest.importorskip("torch", reason="the oracle is torch: pip install -e '.[oracle]'")
    own, make = TORCH[name]
    weights = [torch.tensor(np.asarray(leaf), requires_grad=True) for leaf in jax.tree.leaves(START)]
    optimizer = make(torch, weights)
    for step in range(STEPS):
        for weight, grads in zip(weights, jax.tree.leaves(GRADS), strict=True):
            weight.grad = torch.tensor(np.asarray(grads[step]))
        optimizer.step()
    last = jax.tree.map(lambda a: a[-1], ours(replace(own, lr=0.03)))
    assert_close(last, [weight.detach().numpy() for weight in weights], rtol=1e-5, atol=1e-6)


# ---- learning rates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_rises_linearly_and_reaches_its_peak_at_the_last_step_of_the_warm_up(schedule):
    rates = Recipe(lr=0.4, warmup=5, schedule=schedule).rates(20)
    assert rates.dtype == np.float32
    assert rates.shape == (20,)
    np.testing.assert_allclose(rates[:5], 0.4 * np.arange(1, 6) / 5, rtol=1e-6)
    assert rates[4] == rates.max() == np.float32(0.4)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_after_the_warm_up_a_schedule_is_its_formula(warmup):
    steps, lr = 24, 0.3
    after = np.arange(steps - warmup)
    shapes = {
        "constant": np.ones(len(after)),
        "linear": 1 - after / len(after),
        "cosine": (1 + np.cos(np.pi * after / len(after))) / 2,
    }
    for schedule, shape in shapes.items():
        rates = Recipe(lr=lr, warmup=warmup, schedule=schedule).rates(steps)
        np.testing.assert_allclose(rates[warmup:], lr * shape, rtol=1e-5, err_msg=schedule)


@pytest.mark.parametrize("warmup", [1, 4, 10])
def test_inverse_square_root_is_equation_3_of_the_transformers_paper(warmup):
    """`d^(−1/2) min(s^(−1/2), s · warmup^(−3/2))`, s = 1, 2, …, with its peak at lr."""
    s = np.arange(1, 41)
    published = np.minimum(s**-0.5, s * warmup**-1.5) * warmup**0.5
    rates = Recipe(lr=0.2, warmup=warmup, schedule="inverse_sqrt").rates(40)
    np.testing.assert_allclose(rates, 0.2 * published, rtol=1e-6)


def test_the_recipe_of_the_original_is_its_formula_at_published_constants():
    """`d^(−1/2) min(n^(−1/2), n · 4000^(−3/2))`, d = 512 and 1024: the first step, the peak and the last, the 100,000th."""
    for width in (512, 1024):
        rates = Recipe.original(width).rates(100_000)
        for n in (1, 2, 3999, 4000, 4001, 100_000):
            assert rates[n - 1] == pytest.approx(width**-0.5 * min(n**-0.5, n * 4000**-1.5), rel=1e-6)
        assert rates.argmax() == 3999
    assert Recipe.original().optimizer == Adam(0.9, 0.98, 1e-9)
    assert Recipe.original().rates(4000)[-1] == pytest.approx(6.9877e-4, rel=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_what_falls_to_zero_ends_near_it(schedule):
    rates = Recipe(lr=1.0, warmup=3, schedule=schedule).rates(103)
    assert 0 < rates[-1] <= 0.0101
    assert (np.diff(rates[3:]) < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_shorter_than_its_warm_up_only_rises(schedule):
    np.testing.assert_allclose(Recipe(lr=1.0, warmup=10, schedule=schedule).rates(4), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


# ---- clipping -----------------------------------------------------------------------------------------------


def test_clipping_is_optaxs_of_the_whole_gradient():
    own = Recipe("adam", lr=0.03, clip=2.0)
    assert_close(ours(own), theirs(optax.chain(optax.clip_by_global_norm(2.0), optax.adam(0.03))))


@cases.jit
def clipped(grads):
    return recipe.clip_by_parameter(2.0).update(grads, optax.EmptyState())[0]


def by_hand(g, largest=2.0):
    return np.asarray(g) * min(1.0, largest / np.linalg.norm(g))


def test_each_parameter_is_clipped_apart_layer_by_layer():
    grads = jax.tree.map(lambda g: g[0], GRADS)
    grads["stack"][0]["mlp"]["up"] *= jnp.array([0.1, 1.0, 10.0])[:, None, None]  # the first is below the limit
    found = clipped(grads)
    np.testing.assert_allclose(found["embedding"], by_hand(grads["embedding"]), rtol=1e-6)
    for name, leaf in grads["stack"][0]["mlp"].items():
        own = found["stack"][0]["mlp"][name]
        for l in range(LAYERS):
            np.testing.assert_allclose(own[l], by_hand(leaf[l]), rtol=1e-6)
    np.testing.assert_array_equal(found["stack"][0]["mlp"]["up"][0], grads["stack"][0]["mlp"]["up"][0])


def test_a_zero_gradient_stays_zero_and_one_that_is_not_finite_spoils_no_other_layer():
    grads = jax.tree.map(lambda g: 0 * g[0], GRADS)
    grads["stack"][0]["mlp"]["up"] = grads["stack"][0]["mlp"]["up"].at[1].set(jnp.nan)
    found = clipped(grads)
    assert np.isnan(found["stack"][0]["mlp"]["up"][1]).all()
    found["stack"][0]["mlp"]["up"] = found["stack"][0]["mlp"]["up"].at[1].set(0)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


def test_parameters_are_clipped_before_the_whole():
    own = Recipe("sgd", lr=0.1, clip=1.0, clip_parameter=0.5)
    chain = optax.chain(recipe.clip_by_parameter(0.5), optax.clip_by_global_norm(1.0), optax.sgd(0.1))
    assert_close(ours(own), theirs(chain))


# ---- one value ----------------------------------------------------------------------------------------------


def test_equal_recipes_share_one_transformation_whatever_their_rates():
    base = Recipe("adam", clip=1.0)
    same = [base, Recipe("adam", clip=1.0), replace(base, lr=0.5, warmup=3, schedule="cosine", dropout=0.1)]
    assert len({id(own.direction()) for own in same}) == 1
    other = [base, Recipe("lion", clip=1.0), Recipe("adam"), Recipe("adam", clip_parameter=1.0), Recipe(Adam(b1=0.5))]
    assert len({id(own.direction()) for own in other}) == len(other)


def test_an_optax_transformation_keeps_its_own_rate():
    own = optax.adam(0.01)
    assert recipe.recipe(own).direction() is own
    np.testing.assert_array_equal(recipe.recipe(own).rates(3), np.ones(3, np.float32))
    assert recipe.recipe(own).eps is None


def test_a_name_or_a_value_without_a_rate_gets_the_default_one():
    assert recipe.recipe("lion") == Recipe("lion")
    assert recipe.recipe(Adam(b2=0.9)) == Recipe(Adam(b2=0.9))
    assert recipe.recipe(Recipe(lr=3.0)) == Recipe(lr=3.0)


def test_adams_epsilon_is_known_where_there_is_one():
    assert Recipe("adam").eps == 1e-8
    assert Recipe(Adam(eps=1e-3)).eps == 1e-3
    assert Recipe("sgd").eps is None


def test_the_constants_of_a_named_optimizer_can_be_changed():
    assert recipe.named("adamw", b2=0.98) == Adam(b2=0.98, weight_decay=0.01)
    assert recipe.named("rmsprop") == RMSProp()


@dataclass(frozen=True)
class Own:
    """Somebody's rule."""

    def direction(self):
        return optax.sign_sgd(1.0)


def test_a_rule_of_ones_own_is_an_optimizer():
    assert_close(ours(Recipe(Own(), lr=0.1)), theirs(optax.sign_sgd(0.1)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_recipe_is_written_and_read_back(name):
    for own in (Recipe(name, lr=0.1, clip=2.0), Recipe(OPTIMIZERS[name], warmup=3, schedule="cosine", dropout=0.2)):
        assert configuration.decode(json.loads(json.dumps(configuration.encode(own)))) == own


def test_a_recipe_around_an_optax_transformation_is_readable_and_does_not_build():
    written = configuration.encode(recipe.recipe(optax.sgd(0.1)))
    assert written["lr"] == 1.0
    with pytest.raises(ValueError, match="written by name only"):
        configuration.decode(written)


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"optimizer": "adm"}, "no optimizer 'adm': did you mean 'adam'"),
        ({"schedule": "cosin"}, "no schedule 'cosin': did you mean 'cosine'.*known: constant, linear"),
        ({"lr": 0.0}, "lr is 0.0: a finite number"),
        ({"lr": float("nan")}, "lr is nan: a finite number"),
        ({"clip": -1.0}, "clip is -1.0: a finite number"),
        ({"clip_parameter": 0.0}, "clip_parameter is 0.0: a finite number"),
        ({"warmup": -1}, "warmup is -1: at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0: a finite number from 0 below 1"),
        ({"dropout": -0.1}, "dropout is -0.1: a finite number from 0"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_remedy(options, remedy):
    with pytest.raises(ValueError, match=remedy):
        Recipe(**options)


@pytest.mark.parametrize("optimizer", [0.1, Adam, None, optax.adam])
def test_what_is_no_optimizer_is_refused_with_the_remedy(optimizer):
    with pytest.raises(TypeError, match=r"give a name \(adam.*or an optax transformation"):
        Recipe(optimizer)


def test_a_constant_that_an_optimizer_lacks_is_refused_with_those_it_has():
    with pytest.raises(ValueError, match="lion has no eps: its constants are b1, b2, weight_decay"):
        recipe.named("lion", eps=1e-3)
    with pytest.raises(ValueError, match="did you mean 'rmsprop'"):
        recipe.named("rmspropp")
