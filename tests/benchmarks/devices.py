"""One pass with everything it reads, on host devices that the examples of a batch are divided among; in turn, in one run.

    python tests/benchmarks/devices.py [--devices 1 2 4 8] [--depth 12] [--width 128] [--rounds 9]

Prints medians over rounds of ratios, with quartiles: strong scaling (the same batch, over one device), weak scaling (a batch of
that size for each device, over one device), and meters (the pass with everything it reads over the bare one, on the same
devices). A machine has as many devices as it has cores to itself; more show what dividing costs.
"""

import argparse
import os

COUNT = "--xla_force_host_platform_device_count"
if COUNT not in os.environ.get("XLA_FLAGS", ""):  # read when JAX starts
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {COUNT}=8".strip()

import gradflow  # noqa: E402  (whose own flags come before JAX too)

import jax  # noqa: E402  isort: skip
from turns import in_turn, quartiles  # noqa: E402

from gradflow.instruments.backward import gradients  # noqa: E402
from gradflow.model.numerics import devices  # noqa: E402

EXAMPLES, TOKENS = 8, 64


def batch(examples: int) -> dict:
    tokens = jax.random.randint(jax.random.key(1), (examples, TOKENS + 1), 0, 256)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def bare(model, params, data):
    return jax.value_and_grad(gradients.bare_loss, argnums=1)(model, params, data)


def on_devices(pass_of, model, params, data, count: int):
    """A compiled pass over a batch that lies on so many devices, its weights whole on each."""
    mesh = devices.automatic(jax.make_mesh((count,), ("example",), devices=jax.devices()[:count]))
    weights, seen = devices.place_weights(mesh, params), devices.place(mesh, data, devices.EXAMPLE)

    def whole(weights, seen):
        return devices.everywhere(mesh, pass_of(model, weights, seen))

    compiled = jax.jit(whole).lower(weights, seen).compile()
    return lambda: compiled(weights, seen)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    options.add_argument("--depth", type=int, default=12)
    options.add_argument("--width", type=int, default=128)
    options.add_argument("--rounds", type=int, default=9)
    chosen = options.parse_args()
    model = gradflow.transformer("pre", depth=chosen.depth, width=chosen.width)
    params = model.init(jax.random.key(0))
    ways = {}
    for count in chosen.devices:
        ways["bare", count] = on_devices(bare, model, params, batch(EXAMPLES), count)
        ways["strong", count] = on_devices(gradients.backward, model, params, batch(EXAMPLES), count)
        ways["weak", count] = on_devices(gradients.backward, model, params, batch(EXAMPLES * count), count)
    took = in_turn(ways, chosen.rounds)
    print(f"jax {jax.__version__}, {os.cpu_count()} cores, {chosen.depth} blocks of width {chosen.width}")
    print("devices   strong               weak                 meters")
    first = chosen.devices[0]
    for count in chosen.devices:
        strong, weak = took["strong", count], took["weak", count]
        over = (strong / took["strong", first], weak / took["weak", first], strong / took["bare", count])
        print(f"{count:7}   {'   '.join(map(quartiles, over))}", flush=True)


if __name__ == "__main__":
    main()
