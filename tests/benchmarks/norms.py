"""LayerNorm against RMSNorm: what a step costs with either, forward and with its backward pass, interleaved in one run.

    python tests/benchmarks/norms.py [--wirings pre post] [--depth 12] [--width 128] [--rounds 15]

A saving of about 15% is in circulation (Zhang and Sennrich 2019 report 7 to 64% a model). Prints, for the norm alone and for
whole stacks, the median over rounds and the quartiles of the ratio LayerNorm / RMSNorm: above 1, RMSNorm is ahead.
"""

import argparse

import jax
import jax.numpy as jnp
from turns import in_turn, quartiles

import gradflow as gf
from gradflow.instruments.backward import gradients

NORMS = {"LayerNorm": gf.norms.LayerNorm(), "RMSNorm": gf.norms.RMSNorm()}


def of_norms(width: int, tokens: int = 512) -> dict:
    """`{norm: (forward, forward and backward)}` of the norm alone, on [tokens, width]."""
    x = jax.random.normal(jax.random.key(0), (tokens, width))
    found = {}
    for name, norm in NORMS.items():
        params = norm.init(jax.random.key(1), width)
        apply = lambda p, x, norm=norm: norm(p, x)
        found[name] = passes(apply, lambda p, x, f=apply: jnp.sum(f(p, x) ** 2), params, x)
    return found


def of_stacks(wiring: str, depth: int, width: int) -> dict:
    """The same of the loss of a whole stack."""
    tokens = jax.random.randint(jax.random.key(1), (8, 65), 0, 256)
    batch = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    found = {}
    for name, norm in NORMS.items():
        model = gf.transformer(wiring, depth=depth, width=width, norm=norm)
        loss = lambda p, b, model=model: gradients.bare_loss(model, p, b)
        found[name] = passes(loss, loss, model.init(0), batch)
    return found


def passes(forward, scalar, params, x):
    """Both passes, compiled, as calls without arguments."""
    ways = [jax.jit(f).lower(params, x).compile() for f in (forward, jax.value_and_grad(scalar))]
    return [lambda way=way: way(params, x) for way in ways]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--wirings", nargs="+", default=["pre", "post"])
    options.add_argument("--depth", type=int, default=12)
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    cases = {"the norm alone": of_norms(chosen.width)}
    cases |= {name: of_stacks(name, chosen.depth, chosen.width) for name in chosen.wirings}
    print("LayerNorm / RMSNorm    forward               forward and backward")
    for case, ways in cases.items():
        told = []
        for i in range(2):
            took = in_turn({name: both[i] for name, both in ways.items()}, chosen.rounds)
            told.append(quartiles(took["LayerNorm"] / took["RMSNorm"]))
        print(f"{case:22} {told[0]:21} {told[1]}", flush=True)


if __name__ == "__main__":
    main()
