"""The partial Jacobian at every depth, over PyTorch's passes with hooks and over one `jax.vjp` a position: one run.

    python tests/benchmarks/partial_jacobians.py [--depths 12 48] [--width 128] [--probes 8] [--rounds 9] [--threads 2]

All sides read `‖∂x_S/∂x_l ᵀ v‖²` at every l, for the same m isotropic and m token-common probes, 2m in all, on the same
weights, in float32; without gradients of parameters. Ours is `chain.partial_jacobian`. PyTorch, with hooks on the stream
at every depth, either goes back 2m times over one forward pass, or once over 2m copies of the batch. The separate pulls
are S + 1 compiled programs, each from x_l to x_S, all probes at once; with `--separate 0` they are left out, since
compiling them takes minutes at depth 48.

First checks that all agree; then prints the median seconds and the median over rounds of the ratio ours / theirs, with
its quartiles.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from pytorch import HEADS, Transformer, batch, torch
from torch.nn import functional
from turns import in_turn, quartiles

from gradflow.instruments.jacobians import chain
from gradflow.model.equation.sublayer import sublayer, walk
from gradflow.model.stacks.transformer import transformers
from gradflow.results.quantities import PROBES


def enter(twin, data):
    """The bottom of PyTorch's stream, whose gradient is wanted."""
    x = functional.embedding(data["inputs"], twin.token) + twin.position[: data["inputs"].shape[1]]
    return x.detach().requires_grad_()


def by_passes(twin, data, probes):
    """2m backward passes over one forward pass."""
    squares, now = torch.empty(len(probes), len(twin.sublayers) + 1), [0]
    x = enter(twin, data)
    for l, own in enumerate([*twin.sublayers, None]):
        x.register_hook(lambda g, l=l: squares[now[0]].__setitem__(l, g.square().sum()))
        x = own(x) if own else x
    for now[0], v in enumerate(probes):
        torch.autograd.backward(x, v, retain_graph=True)
    return squares


def by_copies(twin, data, probes):
    """One pass over 2m copies of the batch."""
    copies = {"inputs": data["inputs"].repeat(len(probes), 1)}
    squares = torch.empty(len(probes), len(twin.sublayers) + 1)
    x = enter(twin, copies)
    for l, own in enumerate([*twin.sublayers, None]):
        x.register_hook(lambda g, l=l: squares.T.__setitem__(l, g.square().reshape(len(probes), -1).sum(1)))
        x = own(x) if own else x
    x.backward(probes.flatten(0, 1))
    return squares


def separately(model, params, x, probes):
    """`l -> ` compiled pull from x_S to x_l of all probes."""
    kinds = len(model.stack.different)

    def rest(stack, x, l):
        """x_S from x_l."""
        if l == len(model.sublayers):
            return x
        if l % kinds:
            parts = model.stack.parts_at(stack, l)
            return rest(stack, jax.vmap(lambda x: sublayer(x, **parts))(x), l + 1)
        left = model.stack.at_depth(model.depth - l // kinds)
        above = jax.tree.map(lambda a: a[l // kinds :], stack)
        return jax.vmap(lambda x: walk(left, above, x)[0])(x)

    def squares(stack, x, probes, l):
        pulled = jax.vmap(jax.vjp(lambda x: rest(stack, x, l), x)[1])(probes)[0]
        return jnp.sum(pulled.reshape(len(pulled), -1) ** 2, axis=1)

    visit = lambda x, parts, _: (sublayer(x, **parts), x)
    streams = jax.vmap(lambda x: walk(model.stack, params["stack"], x, visit)[1])(x)
    size = streams.shape[1]
    compiled = [
        jax.jit(lambda stack, x, v, l=l: squares(stack, x, v, l)).lower(params["stack"], x, probes).compile()
        for l in range(size)
    ]
    return lambda: [pull(params["stack"], streams[:, l], probes) for l, pull in enumerate(compiled)]


def by_probe(squares, probes):
    """[S+1, probe] from the squares [2m, S+1]."""
    return np.asarray(squares).reshape(len(PROBES), probes, -1).mean(1).T


def compared(model, pre, chosen):
    """Seconds [rounds] of every way, taken in turn, after a check that all agree."""
    params, data = model.init(0), batch(chosen.batch, chosen.tokens)
    x = jax.vmap(model.enter, (None, 0))(params, data["inputs"])
    probes = jnp.concatenate([chain.drawn(kind, x, chosen.probes, 0) for kind in PROBES])
    twin = Transformer(model, params, pre).requires_grad_(False)
    tensors = {key: torch.tensor(np.asarray(tokens), dtype=torch.long) for key, tokens in data.items()}
    directions = torch.tensor(np.asarray(probes))
    reading = lambda p, b: chain.partial_jacobian(model, p, b, probes=chosen.probes)["partial_jacobian"]
    ours = jax.jit(reading).lower(params, data).compile()
    ways = {
        "ours": lambda: ours(params, data),
        "torch passes": lambda: by_passes(twin, tensors, directions),
        "torch copies": lambda: by_copies(twin, tensors, directions),
        **({"jax separate": separately(model, params, x, probes)} if chosen.separate else {}),
    }
    found = {way: call() for way, call in ways.items()}
    for way in ("torch passes", "torch copies"):
        np.testing.assert_allclose(by_probe(found[way], chosen.probes), found["ours"], rtol=1e-3, err_msg=way)
    if chosen.separate:
        one_by_one = by_probe(np.stack(found["jax separate"], axis=1), chosen.probes)
        np.testing.assert_allclose(one_by_one, found["ours"][:-1], rtol=1e-3)
    return in_turn(ways, chosen.rounds)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depths", type=int, nargs="+", default=[12, 48])
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--probes", type=int, default=8)
    options.add_argument("--separate", type=int, default=1)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, default=2, help="PyTorch's; ours takes what the machine has")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print("wiring depth way             seconds   ours/theirs (quartiles)")
    for depth in chosen.depths:
        shape = {"depth": depth, "width": chosen.width, "heads": HEADS, "context": chosen.tokens}
        for name, model in transformers("pre", "post", **shape).items():
            seconds = compared(model, name == "pre", chosen)
            for way, took in seconds.items():
                ratio = quartiles(seconds["ours"] / took)
                print(f"{name:6} {depth:5} {way:13} {np.median(took):9.4f}   {ratio}", flush=True)


if __name__ == "__main__":
    main()
