"""What `gf.metered` costs a program: time and memory over its bare `value_and_grad`, interleaved; and finding the stream.

    python tests/benchmarks/programs.py [--blocks 12 48] [--kinds unrolled] [--width 256] [--rounds 11]

The program is a decoder in plain JAX, its blocks one after the other, scanned, or scanned and rematerialized. Prints, for each,
the median over rounds of the ratio of times with its quartiles, the ratio of the memory that the compiled step takes beside its
arguments, and the seconds of tracing the program and of finding its stream.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from turns import in_turn, quartiles

import gradflow as gf
from gradflow.programs.trunk.search import trunks

HEADS, VOCABULARY, EXAMPLES, TOKENS = 4, 256, 8, 64


def norm(x, gain):
    return gain * x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6)


def attention(p, x):
    query, key, value = jnp.split(x @ p["qkv"], 3, -1)
    heads = lambda u: u.reshape(*u.shape[:-1], HEADS, -1)
    mixed = jax.nn.dot_product_attention(heads(query), heads(key), heads(value), is_causal=True)
    return mixed.reshape(x.shape) @ p["out"]


def block(x, p):
    x = x + attention(p, norm(x, p["gain1"]))
    return x + jax.nn.gelu(norm(x, p["gain2"]) @ p["up"]) @ p["down"], None


def looped(x, layers):
    for number in range(len(layers["qkv"])):
        x, _ = block(x, jax.tree.map(lambda leaf, number=number: leaf[number], layers))
    return x


KINDS = {
    "unrolled": looped,
    "scanned": lambda x, layers: jax.lax.scan(block, x, layers)[0],
    "rematerialized": lambda x, layers: jax.lax.scan(jax.checkpoint(block), x, layers)[0],
}


def program(kind: str, blocks: int, width: int):
    """Returns a loss, its parameters and a batch."""
    shapes = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width)}
    draw = lambda number, shape: jax.random.normal(jax.random.key(number), shape) / shape[-2] ** 0.5
    layers = {name: draw(number, (blocks, *shape)) for number, (name, shape) in enumerate(shapes.items())}
    layers |= {"gain1": jnp.ones((blocks, width)), "gain2": jnp.ones((blocks, width))}
    params = {"embedding": draw(9, (VOCABULARY, width)), "layers": layers}
    tokens = jax.random.randint(jax.random.key(1), (EXAMPLES, TOKENS + 1), 0, VOCABULARY)

    def loss(params, tokens):
        x = KINDS[kind](params["embedding"][tokens[:, :-1]], params["layers"])
        log_p = jax.nn.log_softmax(norm(x, 1.0) @ params["embedding"].T)
        return -jnp.take_along_axis(log_p, tokens[:, 1:, None], -1).mean()

    return loss, params, tokens


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--blocks", type=int, nargs="+", default=[12, 48])
    options.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--rounds", type=int, default=11)
    chosen = options.parse_args()
    print("kind            blocks   time (quartiles)       memory   tracing s  finding s")
    for blocks in chosen.blocks:
        for kind in chosen.kinds:
            loss, params, tokens = program(kind, blocks, chosen.width)
            begun = time.perf_counter()
            traced = jax.make_jaxpr(loss)(params, tokens)
            between = time.perf_counter()
            (found,) = trunks(traced, len(jax.tree.leaves(params)))
            ended = time.perf_counter()
            assert found.sublayers == 2 * blocks
            bare = jax.jit(jax.value_and_grad(loss)).lower(params, tokens).compile()
            read = jax.jit(gf.metered(loss, params, tokens)).lower(params, tokens).compile()
            ways = {"bare": lambda b=bare: b(params, tokens), "read": lambda r=read: r(params, tokens)}  # noqa: B023
            took = in_turn(ways, chosen.rounds)
            memory = read.memory_analysis().temp_size_in_bytes / bare.memory_analysis().temp_size_in_bytes
            ratio = quartiles(took["read"] / took["bare"])
            seconds = f"{between - begun:9.2f} {ended - between:10.2f}"
            print(
                f"{kind:15} {blocks:6}   {ratio:20}  {memory:7.3f}  {seconds}   {np.median(took['bare']):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
