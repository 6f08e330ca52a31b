"""Residual networks of convolutions in Linen, pre-activation (He et al. 2016b): norm and ReLU in front of every convolution.

One stage with GroupNorm; and two stages with BatchNorm, whose second begins with a strided block and a projection on the skip.
"""

import flax.linen as nn
import jax

from .program import classifier, drawn, images

WIDTH, CLASSES = 8, 10


class Unit(nn.Module):
    """`x + conv(relu(norm(conv(relu(norm x)))))`."""

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.GroupNorm(num_groups=4)(x))
        h = nn.Conv(WIDTH, (3, 3), use_bias=False)(h)
        h = nn.relu(nn.GroupNorm(num_groups=4)(h))
        x = x + nn.Conv(WIDTH, (3, 3), use_bias=False)(h)  # stream
        return x


class OneStage(nn.Module):
    units: int = 4

    @nn.compact
    def __call__(self, image):
        x = nn.Conv(WIDTH, (3, 3), use_bias=False)(image)  # stream
        for _ in range(self.units):
            x = Unit()(x)
        x = nn.relu(nn.GroupNorm(num_groups=4)(x))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class BatchUnit(nn.Module):
    """The norms are over the batch; where the shape changes, the skip is a convolution of the activated input."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        norm = lambda: nn.BatchNorm(use_running_average=False, momentum=0.9)
        strides = (self.stride, self.stride)
        h = nn.relu(norm()(x))
        if self.stride > 1:
            x = nn.Conv(self.features, (1, 1), strides, use_bias=False, name="projection")(h)
        h = nn.Conv(self.features, (3, 3), strides, use_bias=False)(h)
        h = nn.relu(norm()(h))
        x = x + nn.Conv(self.features, (3, 3), use_bias=False)(h)  # stream
        return x


class TwoStages(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.Conv(WIDTH, (3, 3), use_bias=False)(image)  # stream
        for features, stride in ((WIDTH, 1), (WIDTH, 1), (2 * WIDTH, 2), (2 * WIDTH, 1)):
            x = BatchUnit(features, stride)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


def resnet():
    model, batch = OneStage(), images()
    variables = drawn(jax.eval_shape(model.init, jax.random.key(0), batch["inputs"]))
    logits = lambda params, batch: model.apply({"params": params}, batch["inputs"])
    known = {"wiring": "pre", "layers": 4, "source": (OneStage, Unit), "causal": None}
    return classifier("resnet", logits, variables["params"], batch, module=model, variables=variables, **known)


def resnet_stages():
    """The running statistics are updated as in training, and thrown away."""
    model, batch = TwoStages(), images()
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch["inputs"])
    variables = {name: drawn(collection) for name, collection in shapes.items()}

    def logits(params, batch):
        state = {"params": params, "batch_stats": variables["batch_stats"]}
        return model.apply(state, batch["inputs"], mutable=["batch_stats"])[0]

    known = {"wiring": "pre", "layers": 4, "source": (TwoStages, BatchUnit), "causal": None}
    return classifier("resnet_stages", logits, variables["params"], batch, module=model, variables=variables, **known)
