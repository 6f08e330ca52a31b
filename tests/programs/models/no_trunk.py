"""Networks that no stream runs through: a perceptron of plain layers, a DenseNet, and a U-Net."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from .program import Program, classifier, drawn, images

CLASSES = 10


class Perceptron(nn.Module):
    """Norms, but nothing is added to anything."""

    @nn.compact
    def __call__(self, image):
        x = image.reshape(image.shape[0], -1)
        for _ in range(4):
            x = nn.relu(nn.LayerNorm()(nn.Dense(32)(x)))
        return nn.Dense(CLASSES)(x)


class Dense(nn.Module):
    """Every layer reads what all layers before it made: it puts its own beside them (Huang et al. 2017)."""

    growth: int = 4

    @nn.compact
    def __call__(self, image):
        x = nn.Conv(2 * self.growth, (3, 3))(image)
        for _ in range(4):
            new = nn.Conv(self.growth, (3, 3))(nn.relu(nn.GroupNorm(num_groups=4)(x)))
            x = jnp.concatenate([x, new], axis=-1)
        return nn.Dense(CLASSES)(nn.relu(x).mean((1, 2)))


def made(name, model):
    batch = images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["inputs"])
    known = {"wiring": None, "layers": 0, "source": (), "causal": None, "module": model, "variables": variables}
    return classifier(name, logits, variables["params"], batch, **known)


def perceptron():
    return made("perceptron", Perceptron())


def densenet():
    return made("densenet", Dense())


def convolution(x, kernel, stride=1):
    axes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=axes)


def doubled(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def u_net(p, image):
    """Down by halves and up again; on the way up every scale reads its own on the way down (Ronneberger et al. 2015)."""
    fine = jax.nn.silu(convolution(image, p["fine"]))
    middle = jax.nn.silu(convolution(fine, p["middle"], stride=2))
    coarse = jax.nn.silu(convolution(middle, p["coarse"], stride=2))
    coarse = jax.nn.silu(convolution(coarse, p["bottom"]))
    middle = jnp.concatenate([doubled(coarse), middle], axis=-1)
    middle = jax.nn.silu(convolution(middle, p["middle_up"]))
    fine = jnp.concatenate([doubled(middle), fine], axis=-1)
    fine = jax.nn.silu(convolution(fine, p["fine_up"]))
    return convolution(fine, p["out"])


def unet():
    """Noise is to be found in the image; what stands for logits is an image."""
    batch = images(channels=1) | {"noise": images(channels=1, seed=1)["inputs"]}
    shapes = {
        "fine": (3, 3, 1, 4),
        "middle": (3, 3, 4, 8),
        "coarse": (3, 3, 8, 16),
        "bottom": (3, 3, 16, 16),
        "middle_up": (3, 3, 24, 8),
        "fine_up": (3, 3, 12, 4),
        "out": (3, 3, 4, 1),
    }
    noise = lambda params, batch: u_net(params, batch["inputs"] + 0.5 * batch["noise"])
    loss = lambda params, batch: jnp.mean((noise(params, batch) - batch["noise"]) ** 2)
    return Program("unet", loss, noise, drawn(shapes), batch, wiring=None, layers=0, source=(), causal=None)
