"""What a prediction costs: one example of 64 tokens through many blocks, beside measuring the same with 32 seeds.

    python tests/benchmarks/theory.py [--depths 10 100] [--width 128] [--rounds 5]

Prints seconds to compile and to run, the Monte Carlo error of the worst position, and the ratio of the measurement's time
(its weights drawn before, the same quantities) to the prediction's, in turn in one run.
"""

import argparse

import jax
import numpy as np
from turns import in_turn, quartiles, timed

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.instruments.seeds import over_seeds, seed_keys
from gradflow.theory import descent
from gradflow.theory.predict import over_replicas

DRAWS, REPLICAS, SEEDS = 4, 8, 32


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depths", type=int, nargs="+", default=[10, 100])
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    batch = gf.data.text(context=64, batch=1).batch(jax.random.key(0), 0)
    keys = jax.random.split(jax.random.key(0), REPLICAS)
    print("wiring blocks  compile s  predict s  Monte Carlo error  32 seeds / theory (quartiles)")
    for depth in chosen.depths:
        for name, model in gf.transformers("pre", "post", depth=depth, width=chosen.width).items():
            lowered = over_replicas.lower(model, (descent.backward,), DRAWS, "place", batch, keys)
            compiling = timed(lambda low=lowered: (low.compile(), np.zeros(()))[1])
            params = jax.vmap(model.init)(seed_keys(0, SEEDS))
            ways = {
                "theory": lambda m=model: over_replicas(m, (descent.backward,), DRAWS, "place", batch, keys),
                "seeds": lambda m=model, p=params: over_seeds(m, (gradients.reading,), p, batch, None),
            }
            found = ways["theory"]()
            error = float((found["stream_gradient_sem"] / found["stream_gradient"]).max())
            took = in_turn(ways, chosen.rounds)
            ratio = quartiles(took["seeds"] / took["theory"])
            cost = f"{compiling:9.1f} {np.median(took['theory']):10.2f} {error:18.2%}"
            print(f"{name:6} {depth:6} {cost}  {ratio}", flush=True)


if __name__ == "__main__":
    main()
