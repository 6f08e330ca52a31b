"""How time and memory grow with depth, and what a thousand layers cost from nothing, imports and compilation included.

    python tests/benchmarks/depth.py [--depths 10 100 1000] [--width 64] [--tokens 32] [--batches 1 4] [--rounds 5]

Every line is a process of its own: the full reading of one backward pass (`reading`) and the same that keeps only one
stream a block (`rematerialized`): compile and median run time in seconds, the memory that the compiled program asks
for beyond its arguments, and the peak of the process after, and before (weights drawn). Then, in turn in one process,
the ratio of both run times, after a check that they read the same; and ratios of each depth over the one before. Last
the deepest stack: stream gradients and budget, the partial Jacobian with 8 probes and the Lyapunov exponents of 16
directions, together in one process, for pre-norm and post-norm.
"""

import argparse
import itertools
import multiprocessing
import resource
import statistics
import sys
import time

GIGA = 2**20 if sys.platform.startswith("linux") else 2**30  # of what getrusage counts in


def peak():
    """Of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIGA


def timed(call, *args):
    import jax

    start = time.perf_counter()
    found = jax.block_until_ready(call(*args))
    return time.perf_counter() - start, found


def prepared(wiring, depth, width, tokens, batch):
    """Model, weights and a batch."""
    import jax

    from gradflow.model.stacks.transformer import transformers

    model = transformers(wiring, depth=depth, width=width, context=tokens)[wiring]
    drawn = jax.random.randint(jax.random.key(1), (batch, tokens + 1), 0, 256)
    return model, jax.block_until_ready(model.init(0)), {"inputs": drawn[:, :-1], "targets": drawn[:, 1:]}


def one_depth(which, rounds, *shape):
    """Compile and run time, memory, and the reading's own numbers to compare."""
    import jax

    from gradflow.instruments.backward import gradients

    model, params, data = prepared(*shape)
    before = peak()
    seconds, compiled = timed(
        lambda: jax.jit(lambda p, b: getattr(gradients, which)(model, p, b)).lower(params, data).compile()
    )
    timed(compiled, params, data)
    took = statistics.median(timed(compiled, params, data)[0] for _ in range(rounds))
    memory = compiled.memory_analysis().temp_size_in_bytes / 2**30
    return {"compile": seconds, "run": took, "program": memory, "before": before, "peak": peak()}


def side_by_side(rounds, *shape):
    """Median ratio of run times, rematerialized over not, taken in turn, after a check that both read the same."""
    import jax
    import numpy as np

    from gradflow.instruments.backward import gradients

    model, params, data = prepared(*shape)
    ways = [
        jax.jit(lambda p, b, r=reading: r(model, p, b)) for reading in (gradients.rematerialized, gradients.reading)
    ]
    one, other = (way(params, data) for way in ways)
    for name in ("loss", "stream_gradient", "parameter_gradient"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-3)
    turns = [[timed(way, params, data)[0] for way in ways] for _ in range(rounds)]
    return statistics.median(again / kept for again, kept in turns)


def everything(*shape):
    """Seconds of each step from the start of the process, and the peak."""
    start = time.perf_counter()
    import jax
    import numpy as np

    from gradflow.instruments.backward import gradients
    from gradflow.instruments.jacobians import chain

    seconds = {"import": time.perf_counter() - start}
    seconds["weights"], (model, params, data) = timed(prepared, *shape)
    readings = {
        "reading": gradients.reading,
        "partial Jacobian": lambda m, p, b: chain.partial_jacobian(m, p, b, probes=8),
        "Lyapunov": lambda m, p, b: chain.lyapunov(m, p, b, leading=16),
    }
    for name, reading in readings.items():
        seconds[name], found = timed(jax.jit(lambda p, b, r=reading: r(model, p, b)), params, data)
        whole = [
            np.isfinite(a).all() for key, a in found.items() if key in ("stream_gradient", "budget", "tangent_growth")
        ]
        assert all(whole), name
    return {"seconds": seconds, "peak": peak()}


def fresh(task, *args):
    """What `task(*args)` returns in a process of its own, and its seconds with the process."""
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task, args), time.perf_counter() - start


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depths", type=int, nargs="+", default=[10, 100, 1000])
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--tokens", type=int, default=32)
    options.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    shape = lambda wiring, depth, batch: (wiring, depth, chosen.width, chosen.tokens, batch)
    ratios: list[str] = []
    print("batch depth reading          compile s    run s  program GB  peak GB (weights drawn)")
    for batch in chosen.batches:
        found = {}
        for depth in chosen.depths:
            for which in ("reading", "rematerialized"):
                found[which, depth], _ = fresh(one_depth, which, chosen.rounds, *shape("pre", depth, batch))
                row = found[which, depth]
                print(
                    f"{batch:5} {depth:5} {which:15} {row['compile']:10.2f} {row['run']:8.3f} {row['program']:11.3f} "
                    f"{row['peak']:8.2f} ({row['before']:.2f})",
                    flush=True,
                )
            ratio, _ = fresh(side_by_side, chosen.rounds, *shape("pre", depth, batch))
            print(f"{batch:5} {depth:5} rematerialized / reading, in turn: run {ratio:.3f}", flush=True)
        for which in ("reading", "rematerialized"):
            for low, high in itertools.pairwise(sorted(chosen.depths)):
                over = {key: found[which, high][key] / found[which, low][key] for key in ("compile", "run", "program")}
                grown = ", ".join(f"{key} {ratio:.1f}" for key, ratio in over.items())
                ratios.append(f"batch {batch}, {which}, depth {high} over {low}: {grown}")
    print("", *ratios, sep="\n")
    high = max(chosen.depths)
    print(f"\ndepth {high}, cold, everything in one process:")
    for wiring in ("pre", "post"):
        result, seconds = fresh(everything, *shape(wiring, high, 1))
        steps = ", ".join(f"{name} {s:.1f}" for name, s in result["seconds"].items())
        print(f"  {wiring:5} {seconds:6.1f} s  {result['peak']:.2f} GB   ({steps})", flush=True)


if __name__ == "__main__":
    main()
