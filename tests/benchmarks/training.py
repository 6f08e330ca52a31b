"""What recording costs, and what seeds cost: ratios of compiled steps that take turns in one run.

    python tests/benchmarks/training.py [--width 64] [--batch 8]

bare: loss, gradient and Adam, without a meter. economy and standard: what rides on that backward pass. full: a record of
the full preset, in passes of its own, over a bare step: what each recorded step costs beyond.
"""

import argparse

import jax
import jax.numpy as jnp
from turns import in_turn, quartiles

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.seeds import over_seeds, seed_keys, split_seeds
from gradflow.training.plan import Plan
from gradflow.training.recipe import Recipe
from gradflow.training.step import Step


def bare_step(model, direction):
    """The step as anyone would write it."""

    def one(params, optimizer, batch):
        loss, grads = jax.value_and_grad(gradients.bare_loss, argnums=1)(model, params, batch)
        direction_of, optimizer = direction.update(grads, optimizer, params)
        return jax.tree.map(lambda p, u: p + 1e-3 * u, params, direction_of), optimizer, loss

    return jax.jit(jax.vmap(one))


def rows(depth: int, seeds: int, width: int, batch: int, wiring: str = "post"):
    """`{what: call}` at one size."""
    model = gf.transformer(wiring, depth=depth, width=width, heads=4, context=64)
    data, recipe = gf.data.text(context=64, batch=batch), Recipe()
    keys, direction = seed_keys(0, seeds), recipe.direction()
    economy, standard = (
        Step(model, direction, riding, 0.0, recipe.eps) for riding in (gradients.economy, gradients.reading)
    )
    states, seen, bare = split_seeds(standard.start(keys)), data.batches(keys, 0), bare_step(model, direction)
    alone = lambda s, batch: bare(s["params"], s["optimizer"], batch)
    return {
        "bare": lambda: [alone(*group) for group in zip(states, split_seeds(seen), strict=True)],
        "economy": lambda: economy.over_groups(states, seen, keys, 1e-3, 0),
        "standard": lambda: standard.over_groups(states, seen, keys, 1e-3, 0),
    }


def full(depth: int, width: int, batch: int, wiring: str = "post"):
    """`{reading: call}` of one record of the full preset, at one seed."""
    model = gf.transformer(wiring, depth=depth, width=width, heads=4, context=64)
    data, recipe = gf.data.text(context=64, batch=batch), Recipe()
    plan = Plan.of(data, recipe, 0, 1, 2, (0, 1), "full")
    state, seen, bare = (
        plan.step(model).start(plan.keys),
        data.batches(plan.keys, 0),
        bare_step(model, recipe.direction()),
    )
    after = plan.step(model)(state, seen, plan.keys, jnp.asarray(1e-3), jnp.asarray(0))[0]
    of_weights, of_updates = plan.further_at(0)
    calls = {"bare": lambda: bare(state["params"], state["optimizer"], seen)}
    for reading in of_weights:
        calls[reading.__name__] = lambda r=reading: over_seeds(model, (r,), state["params"], seen, 0)
    for reading in of_updates:
        pair = (state["params"], after["params"])
        calls[reading.function.__name__] = lambda r=reading, p=pair: over_seeds(model, (r,), p, seen, 0)
    return calls


def ratios(calls, rounds: int) -> dict[str, str]:
    """`{what: its time over that of the bare step}`."""
    took = in_turn(calls, rounds)
    return {what: quartiles(seconds / took["bare"]) for what, seconds in took.items() if what != "bare"}


def told(found: dict[str, str]) -> str:
    return ", ".join(f"{what} {ratio}" for what, ratio in found.items())


def main() -> None:
    """Prints the ratios."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--width", type=int, default=64)
    asked.add_argument("--batch", type=int, default=8)
    asked.add_argument("--depths", type=int, nargs="+", default=[12, 48])
    asked.add_argument("--rounds", type=int, default=15)
    options = asked.parse_args()
    size = {"width": options.width, "batch": options.batch}
    print(
        f"post-norm, width {options.width}, batch {options.batch} of 64 tokens; over the bare step, median (quartiles)"
    )
    for depth in options.depths:
        for seeds in (1, 8):
            print(
                f"depth {depth}, {seeds} seeds: {told(ratios(rows(depth, seeds, **size), options.rounds))}", flush=True
            )
        one, eight = (rows(depth, seeds, **size)["economy"] for seeds in (1, 8))
        took = in_turn({"one": one, "eight": eight}, options.rounds)
        print(
            f"depth {depth}: 8 seeds at once over 8 times one: {quartiles(took['eight'] / took['one'] / 8)}", flush=True
        )
    print(f"one record of the full preset, depth {options.depths[0]}, 1 seed, in bare steps:")
    print(told(ratios(full(options.depths[0], **size), max(3, options.rounds // 5))))


if __name__ == "__main__":
    main()
