"""Query and key gradients beside theory, with and without the scatter of what tells tokens apart.

    python tests/validation/scores.py

Writes `scores.csv` beside this file: for pre-norm and post-norm, each attention and each of the two matrices the ratio of the
measured mean square to that of theory, with its standard error. Theory is asked in the three ways of `gf.predict(…, scatter=)`:
in the limit of infinite width ("none"), with Gram matrices that scatter as means over the model's features do at the place of the
matrix ("place"), and at every sublayer ("stream").

6 blocks, 192 seeds: one example of 16 tokens at width 128 with 8 heads, and of pre-norm also 4 examples of 32 tokens at width 64
with 4. Some minutes on two cores.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.parameters.names import parameter_names

MATRICES = ("query", "key")
DEPTH, SEEDS = 6, 192


class Setting(NamedTuple):
    """Width, heads, examples and tokens of an example."""

    width: int
    heads: int
    examples: int
    tokens: int


FEW, MANY = Setting(128, 8, 1, 16), Setting(64, 4, 4, 32)
RUNS = (("pre", FEW), ("post", FEW), ("pre", MANY))
ASKED = {"none": (32, 16), "place": (32, 16), "stream": (4, 128)}  # heads drawn a sublayer, and replicas


@partial(jax.jit, static_argnums=0)
def measured(model, keys, batch):
    """Squared gradients of all parameters [seed, S, P]."""
    return jax.lax.map(lambda key: gradients.reading(model, model.init(key), batch)["parameter_gradient"] ** 2, keys)


def moments(squares) -> tuple:
    """The mean, and its relative standard error."""
    squares = np.asarray(squares, float)
    mean = squares.mean(0)
    return mean, squares.std(0, ddof=1) / len(squares) ** 0.5 / mean


def rows(wiring: str, setting: Setting) -> list[dict]:
    """Every block and matrix of one wiring in one setting."""
    width, heads, examples, tokens = setting
    batch = gf.data.text(context=tokens, batch=examples).batch(jax.random.key(0), 0)
    model = gf.transformer(wiring, depth=DEPTH, width=width, heads=heads, context=tokens)
    names = parameter_names(model.stack, model.shapes["stack"])
    own, own_error = moments(measured(model, jax.random.split(jax.random.key(0), SEEDS), batch))
    found = [
        {"wiring": wiring, "matrix": matrix, "block": block + 1, **setting._asdict()}
        for matrix in MATRICES
        for block in range(DEPTH)
    ]
    for how, (draws, replicas) in ASKED.items():
        theory = gf.predict(model, batch, draws=draws, replicas=replicas, scatter=how)["model"].to_dataset()
        for row in found:
            at = {"parameter": row["matrix"], "sublayer": 2 * row["block"] - 1}
            root, error = (float(theory[name].sel(at)) for name in ("parameter_gradient", "parameter_gradient_sem"))
            place = at["sublayer"] - 1, names.index(row["matrix"])
            ratio = own[place] / root**2
            row |= {how: ratio, f"{how}_se": ratio * np.hypot(own_error[place], 2 * error / root)}
    return found


def main() -> None:
    found = []
    for wiring, setting in RUNS:
        found += rows(wiring, setting)
        pd.DataFrame(found).to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4f")
        print(pd.DataFrame(found[-2 * DEPTH :]).to_string(), flush=True)


if __name__ == "__main__":
    main()
