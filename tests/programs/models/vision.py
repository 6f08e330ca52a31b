"""Networks of image patches in NNX: a ViT with a class token, CaiT's LayerScale, and an MLP-Mixer. All pre-norm."""

import jax.numpy as jnp
from flax import nnx

from .program import classifier, drawn, images

WIDTH, HEADS, DEPTH, PATCH, SIZE, CLASSES = 16, 4, 2, 4, 12, 10
TOKENS = (SIZE // PATCH) ** 2
normal = nnx.initializers.normal(0.02)


def patches(image):
    batch, height, width, channels = image.shape
    grid = image.reshape(batch, height // PATCH, PATCH, width // PATCH, PATCH, channels)
    return grid.swapaxes(2, 3).reshape(batch, TOKENS, PATCH * PATCH * channels)


class Mlp(nnx.Module):
    def __init__(self, width, hidden, rngs):
        self.up, self.down = nnx.Linear(width, hidden, rngs=rngs), nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x):
        return self.down(nnx.gelu(self.up(x)))


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.mlp = Mlp(WIDTH, 4 * WIDTH, rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))  # stream
        x = x + self.mlp(self.norm2(x))  # stream
        return x


class ScaledBlock(Block):
    """LayerScale: every feature of a branch has a gain of its own, which starts small (Touvron et al. 2021)."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.scale1 = nnx.Param(jnp.full(WIDTH, 0.1, jnp.float32))
        self.scale2 = nnx.Param(jnp.full(WIDTH, 0.1, jnp.float32))

    def __call__(self, x):
        x = x + self.scale1[...] * self.attention(self.norm1(x))  # stream
        x = x + self.scale2[...] * self.mlp(self.norm2(x))  # stream
        return x


class MixerBlock(nnx.Module):
    """One perceptron over the tokens of a feature, one over the features of a token (Tolstikhin et al. 2021)."""

    def __init__(self, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.LayerNorm(WIDTH, rngs=rngs)
        self.over_tokens, self.over_features = Mlp(TOKENS, 2 * TOKENS, rngs), Mlp(WIDTH, 2 * WIDTH, rngs)

    def __call__(self, x):
        x = x + self.over_tokens(self.norm1(x).swapaxes(1, 2)).swapaxes(1, 2)  # stream
        x = x + self.over_features(self.norm2(x))  # stream
        return x


class ClassToken(nnx.Module):
    """The embedding of a ViT: a token for the class in front of the patches; read out from it alone."""

    def __init__(self, block, rngs):
        self.patch = nnx.Linear(PATCH * PATCH * 3, WIDTH, rngs=rngs)
        self.class_token = nnx.Param(normal(rngs.params(), (1, 1, WIDTH)))
        self.positions = nnx.Param(normal(rngs.params(), (1, TOKENS + 1, WIDTH)))
        self.blocks = nnx.List([block(rngs) for _ in range(DEPTH)])
        self.norm, self.head = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, image):
        class_token = jnp.broadcast_to(self.class_token[...], (image.shape[0], 1, WIDTH))
        x = jnp.concatenate([class_token, self.patch(patches(image))], axis=1) + self.positions[...]  # stream
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class Mixer(nnx.Module):
    def __init__(self, rngs):
        self.patch = nnx.Linear(PATCH * PATCH * 3, WIDTH, rngs=rngs)
        self.blocks = nnx.List([MixerBlock(rngs) for _ in range(DEPTH)])
        self.norm, self.head = nnx.LayerNorm(WIDTH, rngs=rngs), nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, image):
        x = self.patch(patches(image))  # stream
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(axis=1))


def program(name, make, wiring, source):
    graph, shapes = nnx.split(nnx.eval_shape(make))
    params = drawn(shapes)
    logits = lambda params, batch: nnx.merge(graph, params)(batch["inputs"])
    known = {
        "wiring": wiring,
        "layers": 2 * DEPTH,
        "source": source,
        "causal": None,
        "module": nnx.merge(graph, params),
    }
    return classifier(name, logits, params, images(SIZE), **known)


def vit():
    return program("vit", lambda: ClassToken(Block, nnx.Rngs(0)), "pre", (ClassToken, Block))


def layerscale():
    return program("layerscale", lambda: ClassToken(ScaledBlock, nnx.Rngs(0)), "layerscale", (ClassToken, ScaledBlock))


def mixer():
    return program("mixer", lambda: Mixer(nnx.Rngs(0)), "pre", (Mixer, MixerBlock))
