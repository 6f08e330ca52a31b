"""One pass with everything it reads, over PyTorch's gradient profile: same weights, same data, float32, one run.

    python tests/benchmarks/pytorch.py [--depths 12 48 200] [--widths 128 256] [--rounds 15] [--threads 2]

Both sides give the loss, every gradient, the norm of every parameter's gradient and the norm of the stream's gradient at
every depth; ours reads besides what `gradients.backward` lists. PyTorch, written by hand with its fused attention, takes
the stream's gradients in three ways: full backward hooks on the sublayers, hooks on the tensors, and `retain_grad`. Ours is
compiled as `gf.measure` and `gf.train` compile it.

With PYTHONPATH set to another checkout, that one's passes are timed.

First checks that both sides agree; then prints, for each model, the median seconds, and the median over rounds of the
ratio ours / (PyTorch's best way in that round), with its quartiles.

Where the system's allocator gives a large block back after every call, the next one pays for its pages again: a tenth of
the time or more on Linux. With glibc, `MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592` in the
environment keeps them, for both sides.

Axes: x is [batch, tokens, features]; S sublayers, H heads.
"""

import argparse
import statistics
from functools import partial

import jax
import numpy as np
from turns import in_turn, quartiles

from gradflow import compiler
from gradflow.instruments.backward import gradients
from gradflow.model.stacks.transformer import transformers

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise SystemExit("this benchmark needs PyTorch: pip install 'gradflow-jax[oracle]'") from error

HEADS, EPS = 4, 1e-5


def batch(size=8, context=64):
    tokens = jax.random.randint(jax.random.key(1), (size, context + 1), 0, 256)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


# ---- PyTorch's side -----------------------------------------------------------------------------------------


def leaf(array):
    """A parameter with the values of ours."""
    return torch.nn.Parameter(torch.tensor(np.asarray(array)))


class Norm(torch.nn.Module):
    """LayerNorm."""

    def __init__(self, own):
        super().__init__()
        self.scale, self.bias = leaf(own.scale[...]), leaf(own.bias[...])

    def forward(self, x):
        return functional.layer_norm(x, x.shape[-1:], self.scale, self.bias, EPS)


class Attention(torch.nn.Module):
    """Causal attention, query, key and value from one product."""

    def __init__(self, own):
        super().__init__()
        self.qkv = leaf(np.concatenate([own[name].kernel[...].T for name in ("query", "key", "value")]))
        self.out = leaf(own["out"].kernel[...].T)

    def forward(self, x):
        heads = functional.linear(x, self.qkv).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return functional.linear(
            functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(-2), self.out
        )


class FeedForward(torch.nn.Module):
    """Two products with an exact GELU between them."""

    def __init__(self, own):
        super().__init__()
        self.up, self.down = leaf(own["up"].kernel[...].T), leaf(own["down"].kernel[...].T)
        self.up_bias, self.down_bias = leaf(own["up"].bias[...]), leaf(own["down"].bias[...])

    def forward(self, x):
        return functional.linear(
            functional.gelu(functional.linear(x, self.up, self.up_bias)), self.down, self.down_bias
        )


class Sublayer(torch.nn.Module):
    """`x + F(N x)` or `N(x + F x)`."""

    def __init__(self, kind, own, pre):
        super().__init__()
        self.branch = {"attention": Attention, "mlp": FeedForward}[kind](own["branch"])
        self.norm, self.pre = Norm(own["norm_in" if pre else "norm_out"]), pre

    def forward(self, x):
        return x + self.branch(self.norm(x)) if self.pre else self.norm(x + self.branch(x))


class Transformer(torch.nn.Module):
    """The twin of one of ours, with its weights."""

    def __init__(self, model, params, pre):
        super().__init__()
        params = jax.device_get(params)
        self.token, self.position = (leaf(params["embedding"][name].embedding[...]) for name in ("token", "position"))
        at = lambda depth: jax.tree.map(lambda a: a[depth], params["stack"][0])
        self.sublayers = torch.nn.ModuleList(
            Sublayer(kind, own, pre) for depth in range(model.depth) for kind, own in at(depth).items()
        )
        self.leave = Norm(params["leave"]) if pre else torch.nn.Identity()
        self.readout = leaf(params["readout"].kernel[...].T)

    def forward(self, data, note=lambda x: None):
        """The loss; `note(x)` sees the stream before every sublayer and at the top."""
        x = functional.embedding(data["inputs"], self.token) + self.position[: data["inputs"].shape[1]]
        for sublayer in self.sublayers:
            note(x)
            x = sublayer(x)
        note(x)
        logits = functional.linear(self.leave(x), self.readout)
        return functional.cross_entropy(logits.flatten(0, 1), data["targets"].flatten())


def parameter_norms(model):
    """The norm of every parameter's gradient."""
    return torch.stack(torch._foreach_norm([p.grad for p in model.parameters()]))


def by_module_hooks(model):
    """Full backward hooks on the sublayers, and one on the tensor at the top."""
    norms = []
    note = lambda module, into, out: norms.append(into[0].norm())
    for sublayer in model.sublayers:
        sublayer.register_full_backward_hook(note)

    def step(data):
        norms.clear()
        model.zero_grad()
        seen = []
        loss = model(data, seen.append)
        seen[-1].register_hook(lambda g: norms.append(g.norm()))
        loss.backward()
        return loss.detach(), torch.stack(norms[::-1]), parameter_norms(model)

    return step


def by_tensor_hooks(model):
    """A hook on the stream at every depth."""

    def step(data):
        norms = []
        model.zero_grad()
        loss = model(data, lambda x: x.register_hook(lambda g: norms.append(g.norm())))
        loss.backward()
        return loss.detach(), torch.stack(norms[::-1]), parameter_norms(model)

    return step


def by_retained_gradients(model):
    """The stream's gradients kept, their norms taken after the pass."""

    def step(data):
        seen = []
        model.zero_grad()
        loss = model(data, lambda x: (x.retain_grad(), seen.append(x)))
        loss.backward()
        return loss.detach(), torch.stack(torch._foreach_norm([x.grad for x in seen])), parameter_norms(model)

    return step


WAYS = {"module hooks": by_module_hooks, "tensor hooks": by_tensor_hooks, "retain_grad": by_retained_gradients}

# ---- side by side -------------------------------------------------------------------------------------------


def check(ours, theirs):
    """Loss and stream gradient norms to 1e-4, relative."""
    loss, stream, _ = theirs
    np.testing.assert_allclose(ours["loss"], loss.numpy(), rtol=1e-4)
    np.testing.assert_allclose(ours["stream_gradient"], stream.numpy(), rtol=1e-4)


def compared(name, model, rounds):
    """Seconds [rounds] of every way and of ours, taken in turn."""
    params, data = model.init(0), batch()
    tensors = {key: torch.tensor(np.asarray(tokens), dtype=torch.long) for key, tokens in data.items()}
    ours = jax.jit(partial(gradients.backward, model), compiler_options=compiler.options(compiler.OFTEN))
    steps = {way: build(Transformer(model, params, name == "pre")) for way, build in WAYS.items()}
    for step in steps.values():
        check(ours(params, data)[1], step(tensors))
    ways = {way: lambda step=step: step(tensors) for way, step in steps.items()}
    return in_turn({**ways, "ours": lambda: ours(params, data)}, rounds)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--depths", type=int, nargs="+", default=[12, 48, 200])
    options.add_argument("--widths", type=int, nargs="+", default=[128, 256])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--threads", type=int, default=2, help="PyTorch's; ours takes what the machine has")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    print("wiring width depth " + "".join(f"{way:>14}" for way in [*WAYS, "ours"]) + "   ours/best (quartiles)")
    for width in chosen.widths:
        for depth in chosen.depths:
            for name, model in transformers("pre", "post", depth=depth, width=width, heads=HEADS).items():
                seconds = compared(name, model, chosen.rounds)
                ratios = seconds["ours"] / np.min([seconds[way] for way in WAYS], axis=0)
                medians = "".join(f"{statistics.median(s):14.4f}" for s in seconds.values())
                print(f"{name:6} {width:5} {depth:5} {medians}   {quartiles(ratios)}", flush=True)


if __name__ == "__main__":
    main()
