"""Similarity of positions against streams that loops give, written out."""

import cases
import jax
import numpy as np
import reference

from gradflow.instruments.forward import similarity


def test_cosine_and_angle_are_those_of_the_streams_token_by_token():
    read = cases.read("pre")
    model, params, batch = read["model"], read["params"], read["batch"]
    found = jax.jit(similarity.between_positions, static_argnums=0)(model, params, batch)
    run = cases.jit(lambda params, tokens: reference.stream(model, params, reference.embedded(model, params, tokens)))
    cosines, angles = [], []
    for example in range(len(batch["targets"])):
        x = np.stack(jax.device_get(run(params, jax.tree.map(lambda a, i=example: a[i], batch["inputs"]))))
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        by_token = np.einsum("ltd,mtd->lmt", unit, unit).clip(-1, 1)
        cosines.append(by_token.mean(-1))
        angles.append(np.arccos(by_token).mean(-1) / np.pi)
    np.testing.assert_allclose(found["stream_cosine"], np.mean(cosines, 0), rtol=1e-10)
    np.testing.assert_allclose(found["stream_angle"], np.mean(angles, 0), atol=1e-7)  # arccos near 1
    np.testing.assert_array_equal(np.diagonal(found["stream_angle"]), 0)


def test_equal_opposite_and_empty_streams():
    x = np.zeros((4, 2, 3))
    x[0, :, 0], x[1, :, 0], x[2, :, 1] = 2.0, -1.0, 5.0
    cosine, angle = similarity._cosine_and_angle(x)
    np.testing.assert_allclose(cosine[0], [1, -1, 0, 0])
    np.testing.assert_allclose(angle[0], [0, 1, 0.5, 0.5], rtol=1e-6)
