"""What the meters cost: one pass with everything it reads, over the bare `value_and_grad`, interleaved in one run.

    python tests/benchmarks/meters.py [--depths 12 48 200] [--width 128] [--rounds 15]

Prints, for each depth and wiring, the median over rounds of the ratio (loss, gradients, everything one backward pass
reads) / (loss, gradients), and the ratio of compile times at the largest depth over the smallest.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from turns import in_turn, quartiles, timed

from gradflow.instruments.backward import gradients
from gradflow.model.stacks.transformer import transformers


def batch(size=8, context=64):
    tokens = jax.random.randint(jax.random.key(1), (size, context + 1), 0, 256)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depths", type=int, nargs="+", default=[12, 48, 200])
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    data, compiled = batch(), {}
    print("wiring  depth   bare s  read s   ratio (quartiles)   compile s")
    for depth in chosen.depths:
        for name, model in transformers("pre", "post", depth=depth, width=chosen.width).items():
            params = model.init(0)
            grad = jax.value_and_grad(gradients.bare_loss, argnums=1)
            bare = jax.jit(lambda p, b, m=model, g=grad: g(m, p, b)).lower(params, data).compile()
            lowered = jax.jit(lambda p, b, m=model: gradients.backward(m, p, b)).lower(params, data)
            compiled[name, depth] = timed(lambda low=lowered: (low.compile(), jnp.zeros(()))[1])
            read = lowered.compile()
            ways = {"bare": lambda r=bare, p=params: r(p, data), "read": lambda r=read, p=params: r(p, data)}
            took = in_turn(ways, chosen.rounds)
            medians = f"{np.median(took['bare']):8.3f} {np.median(took['read']):7.3f}"
            ratio = quartiles(took["read"] / took["bare"])
            print(f"{name:6} {depth:6} {medians}   {ratio}     {compiled[name, depth]:.2f}", flush=True)
    low, high = min(chosen.depths), max(chosen.depths)
    for name in ("pre", "post"):
        print(
            f"{name}: compile time at depth {high} over depth {low}: {compiled[name, high] / compiled[name, low]:.2f}"
        )


if __name__ == "__main__":
    main()
