"""Exact singular values of every sublayer's Jacobian, over `torch.func.jacrev` and `torch.linalg.svdvals`: one run.

    OPENBLAS_NUM_THREADS=1 python tests/benchmarks/spectra.py [--depth 4] [--rounds 7]

Two sizes: width 64 with 16 tokens, attention and feed-forward (n = 1024: one dense matrix for attention, a block a token
for the other), and width 128 with 64 tokens, feed-forward alone. Ours is `spectrum` with `factors=("sublayer",)`, which
reads all its functionals besides and restricts maps to tangent spaces, compared with its own Jacobians without any
decomposition (`pushes`), which shows where the time goes. PyTorch has the same structure by hand: `vmap(jacrev)` over
tokens where they don't couple, `jacrev` (in chunks of 256, the fastest tried) where they do, then `svdvals`. It gets as
many threads as the LAPACK behind ours is told to take; more than one may be a hundredfold slower on either side where the
machine is busy.

First checks that singular values agree; then prints the median seconds and the median over rounds of the ratio ours /
theirs, with its quartiles.
"""

import argparse
import dataclasses
import os

import jax
import numpy as np
from pytorch import HEADS, Transformer, batch, torch
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from turns import in_turn, quartiles

from gradflow.instruments.jacobians.matrices import blocks
from gradflow.instruments.jacobians.operators import operators
from gradflow.instruments.jacobians.spaces import everything
from gradflow.instruments.jacobians.spectrum import spectrum
from gradflow.instruments.meters.visits import with_params
from gradflow.model.equation.sublayer import walk
from gradflow.model.stacks.stack import Stack
from gradflow.model.stacks.transformer import transformers
from gradflow.results.quantities import JACOBIANS

WHOLE = JACOBIANS.index("sublayer")
THREADS = int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))


def theirs(twin, data, decompose=torch.linalg.svdvals):
    """Singular values of every sublayer, descending, of the first example."""
    x = enter(twin, data)
    found = []
    for own in twin.sublayers:
        if hasattr(own.branch, "qkv"):
            J = jacrev(lambda x, own=own: own(x[None])[0], chunk_size=256)(x)
            J = J.reshape(1, x.numel(), x.numel())
        else:
            J = vmap(jacrev(own))(x)
        found.append(decompose(J))
        x = own(x[None])[0]
    return found


def enter(twin, data):
    """The bottom of PyTorch's stream."""
    return twin.token[data["inputs"][0]] + twin.position[: data["inputs"].shape[1]]


def pushes(model, params, batch):
    """The sublayers' matrices, summed: nothing decomposed."""
    x = model.enter(params, jax.tree.map(lambda a: a[0], batch["inputs"]))

    def visit(carry, own, _):
        y, space, found = operators(*own, *carry)
        return (y, space), blocks(found["sublayer"]).sum()

    return walk(model.stack, params["stack"], (x, everything(x)), visit, bind=with_params)[1]


def domains(model, params, batch):
    """Normals [S, T, d, K] of the space that every sublayer acts on: what the norm below leaves."""
    x = model.enter(params, jax.tree.map(lambda a: a[0], batch["inputs"]))

    def visit(carry, own, _):
        y, space, found = operators(*own, *carry)
        return (y, space), found["sublayer"].domain.normals

    return walk(model.stack, params["stack"], (x, everything(x)), visit, bind=with_params)[1]


def check(ours, matrices, normals):
    """To 1e-4 of the largest, with PyTorch's matrices restricted to the same spaces; ours has no value for what is left out."""
    for values, J, taken in zip(np.asarray(ours), matrices, np.asarray(normals), strict=True):
        tokens, features, _ = taken.shape
        onto = np.eye(features) - np.einsum("tik,tjk->tij", taken, taken)
        by_token = J.numpy().reshape(len(J), -1, tokens // len(J), features)
        restricted = np.einsum("boti,btij->botj", by_token, onto.reshape(len(J), -1, features, features))
        dense = np.linalg.svd(restricted.reshape(J.shape), compute_uv=False)
        dense = np.sort(dense.ravel())[::-1]
        np.testing.assert_allclose(np.nan_to_num(values), dense, atol=1e-4 * dense[0])


def compared(model, pre, tokens, rounds):
    """Seconds [rounds] of every way, taken in turn, after a check that both sides agree."""
    params, data = model.init(0), batch(1, tokens)
    twin = Transformer(model, params, pre).requires_grad_(False)
    tensors = {key: torch.tensor(np.asarray(a), dtype=torch.long) for key, a in data.items()}
    compiled = lambda reading: jax.jit(lambda p, b: reading(model, p, b)).lower(params, data).compile()
    full = compiled(lambda *args: spectrum(*args, factors=("sublayer",)))
    values = compiled(lambda *args: spectrum(*args, factors=("sublayer",))["singular_values"][:, WHOLE])
    alone = compiled(pushes)
    check(values(params, data), theirs(twin, tensors, decompose=lambda J: J), domains(model, params, data))
    ways = {
        "everything": lambda: full(params, data),
        "values": lambda: values(params, data),
        "pushes": lambda: alone(params, data),
        "torch values": lambda: theirs(twin, tensors),
        "torch jacrev": lambda: theirs(twin, tensors, decompose=lambda J: J.sum()),
    }
    return in_turn(ways, rounds)


def feed_forward_alone(model):
    """The model without its attention."""
    alone = (dataclasses.replace(segment, block=segment.block[1:]) for segment in model.stack.segments)
    return dataclasses.replace(model, stack=Stack(tuple(alone)))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depth", type=int, default=4)
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    torch.set_num_threads(THREADS)
    sizes = {"64 x 16": (64, 16, lambda model: model), "128 x 64, feed-forward": (128, 64, feed_forward_alone)}
    print("size                   wiring  way            seconds   / torch values (quartiles)")
    for size, (width, tokens, part) in sizes.items():
        shape = {"depth": chosen.depth, "width": width, "heads": HEADS, "context": tokens}
        for name, model in transformers("pre", "post", **shape).items():
            with sdpa_kernel(SDPBackend.MATH):  # the fused one has no batching rule for its backward pass
                seconds = compared(part(model), name == "pre", tokens, chosen.rounds)
            for way, took in seconds.items():
                ratio = quartiles(took / seconds["torch values"])
                print(f"{size:22} {name:7} {way:13} {np.median(took):8.4f}   {ratio}", flush=True)


if __name__ == "__main__":
    main()
