"""What the meters cost: one pass with everything it reads, over the bare `value_and_grad`, interleaved in one run.

    python tests/benchmarks/meters.py [--depths 12 48 200] [--width 128] [--rounds 15]

Prints, for each depth and wiring, the median over rounds of the ratio (loss, gradients, everything one backward pass
reads) / (loss, gradients), and the ratio of compile times at the largest depth over the smallest.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from gradflow.instruments import gradients
from gradflow.model.stack import transformers


def batch(size=8, context=64):
    tokens = jax.random.randint(jax.random.key(1), (size, context + 1), 0, 256)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def timed(call, *args):
    start = time.perf_counter()
    jax.block_until_ready(call(*args))
    return time.perf_counter() - start


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
            timed(bare, params, data), timed(read, params, data)
            pairs = [(timed(bare, params, data), timed(read, params, data)) for _ in range(chosen.rounds)]
            ratios = sorted(r / b for b, r in pairs)
            quarter = len(ratios) // 4
            medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
            print(
                f"{name:6} {depth:6} {medians[0]:8.3f} {medians[1]:7.3f}   {statistics.median(ratios):.3f} "
                f"({ratios[quarter]:.3f}-{ratios[-1 - quarter]:.3f})     {compiled[name, depth]:.2f}",
                flush=True,
            )
    low, high = min(chosen.depths), max(chosen.depths)
    for name in ("pre", "post"):
        print(
            f"{name}: compile time at depth {high} over depth {low}: {compiled[name, high] / compiled[name, low]:.2f}"
        )


if __name__ == "__main__":
    main()
