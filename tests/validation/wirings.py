"""Theory beside measurement of every wiring that has a name: 6 blocks, one real example of 32 tokens.

    python tests/validation/wirings.py [--only keel mhc] [--width 256] [--init xiong] [--seeds 1024]

Writes `wirings.csv` beside this file, a row a wiring and initialization: as in `theory.csv` the ratio of the measured mean
square to the predicted at the worst place, with its standard error, of the stream gradient, the stream, and all weights but
query and key; or what the theory refuses. Seeds are drawn until the errors of the first are small enough. Half an hour at
width 256.

Without norms the scores of attention grow with the stream and rare seeds carry the mean square, so that no number of seeds is
enough: `none` has a second row, with the even attention of Xiong et al. 2020, and at least so many seeds that rare ones are
among them. What is of order 1/d is halved where a row has width 512:

    --only none --init xiong --width 512 --seeds 1024;  --only sub_ln --width 512
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from theory import QUANTITIES, worst

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.stacks.admin_profiling import profiled

DEPTH, HEADS, CONTEXT, DRAWS = 6, 8, 32, 256
SCORES = ("query", "key")
ENOUGH, AT_A_TIME, MOST = 0.0155, 64, 2048  # relative standard error of the measured mean square; seeds
TABLE = Path(__file__).with_suffix(".csv")
PLACES = dict.fromkeys(("stream_gradient_at", "stream_rms_at", "weights_at"), str)


@partial(jax.jit, static_argnums=0)
def squares(model, params, batch) -> dict:
    """Squares of what one backward pass reads."""
    read = gradients.reading(model, params, batch)
    return {name: read[name] ** 2 for name in QUANTITIES}


def measured(model, least: int, batch) -> dict:
    """`{quantity: (Σ square, Σ square²)}` over `n` seeds, `least` or as many as are needed."""
    draw = jax.jit(lambda key: model.init(key))
    own: dict = {"n": 0, **dict.fromkeys(QUANTITIES, (0.0, 0.0))}
    while own["n"] < max(MOST, least):
        for seed in range(own["n"], own["n"] + AT_A_TIME):
            for name, value in jax.device_get(squares(model, draw(jax.random.key(seed)), batch)).items():
                first, second = own[name]
                own[name] = (first + value.astype(np.float64), second + value.astype(np.float64) ** 2)
        own["n"] += AT_A_TIME
        first, second = own["stream_gradient"]
        if own["n"] >= least and np.sqrt((own["n"] * second / first**2 - 1) / (own["n"] - 1)).max() < ENOUGH:
            break
    return own


def row(name: str, init: str, width: int, least: int, batch) -> dict:
    """What the table says of one wiring and initialization."""
    model = gf.transformer(name, depth=DEPTH, width=width, heads=HEADS, context=CONTEXT, init=init)
    model = profiled({name: model}, batch)[name]
    try:
        predicted = gf.predict(model, batch, draws=DRAWS)["model"].to_dataset()
    except (ValueError, NotImplementedError) as refusal:
        return {"refused": str(refusal)}
    own = measured(model, least, batch)
    known = predicted["parameter_gradient"].notnull().any("sublayer")
    others = [str(p) for p in predicted["parameter"].values if p not in SCORES and bool(known.sel(parameter=p))]
    asked = {
        "stream_gradient": worst(own, predicted, "stream_gradient"),
        "stream_rms": worst(own, predicted, "stream_rms"),
        "weights": worst(own, predicted, "parameter_gradient", parameter=others),
    }
    told = {f"{what}_{column}": value for what, place in asked.items() for column, value in place.items()}
    return {"width": width, "seeds": own["n"], **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(gf.wirings().index), default=list(gf.wirings().index))
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--init", default="fan_in", help="fan_in is what every wiring has of its own accord")
    parser.add_argument("--seeds", type=int, default=AT_A_TIME, help="the least number of them")
    names, width, init, least = vars(parser.parse_args()).values()
    batch = gf.data.text(context=CONTEXT, batch=1).batch(jax.random.key(0), 0)
    index = ["wiring", "init"]
    known = pd.read_csv(TABLE, dtype=PLACES).set_index(index).to_dict("index") if TABLE.exists() else {}
    for name in names:
        known[name, init] = row(name, init, width, least, batch)
        print(name, init, known[name, init], flush=True)
        inits = sorted({init for _, init in known})
        rows = [(name, init) for name in gf.wirings().index for init in inits if (name, init) in known]
        table = pd.DataFrame([known[at] for at in rows], pd.MultiIndex.from_tuples(rows, names=index))
        table.convert_dtypes().to_csv(TABLE, float_format="%.4f")
        jax.clear_caches()


if __name__ == "__main__":
    main()
