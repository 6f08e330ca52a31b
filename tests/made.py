"""Trees of made-up readings with all that a report shows, so that nothing is compiled: what is true of them is known."""

from functools import cache

import numpy as np
import xarray as xr

import gradflow as gf
from gradflow.results.quantities import (
    FACTORS,
    JACOBIANS,
    LOG_SIGMA,
    LOST,
    PROBES,
    QUANTILES,
    ROUNDED,
    ROUNDINGS,
    TERMS,
)
from gradflow.results.tree import Readings, label

S = 4  # sublayers
SHAPE = {"depth": 2, "width": 8, "heads": 2, "context": 8}
TEXT = {"name": "a text", "bytes": 99, "sha256": "ab" * 32, "context": 8, "batch": 2, "reduction": "mean over tokens"}
COORDS = {
    "depth": np.arange(S + 1),
    "sublayer": np.arange(1, S + 1),
    "kind": ("sublayer", ["attention", "mlp"] * (S // 2)),
    "parameter": ("parameter", ["query", "down"]),
}
BLOCKS = {"layer": ("sublayer", [1, 1, 2, 2]), "block": [1, 2]}


def readings(seeds: int, steps, seed: int, jacobians: bool, layers: bool, model) -> Readings:
    """Numbers near 1, and a stream gradient that falls by a fifth a position."""
    draw, lead = np.random.default_rng(seed).normal, (seeds,) if steps is None else (len(steps), seeds)
    near = lambda *shape: np.exp(0.1 * draw(size=(*lead, *shape)))
    arrays = {
        "loss": 3 * near(),
        "heldout_loss": 3 * near(),
        "readout_gradient": near(),
        "stream_gradient": near(S + 1) * np.exp(-0.2 * np.arange(S + 1)),
        "stream_rms": near(S + 1),
        "budget": draw(size=(*lead, S, len(FACTORS))),
        "leave_gain": draw(size=lead),
        "token_cosine": 0.5 * near(S + 1),
        "parameter_gradient": near(S, 2),
        "split": draw(size=(*lead, S, len(TERMS))),
        "branch_to_skip": near(S),
        "partial_jacobian": near(S + 1, len(PROBES)),
        "branch_rms": near(S),
    }
    arrays["parameter_gradient"][..., 0::2, 1] = np.nan
    arrays["parameter_gradient"][..., 1::2, 0] = np.nan
    if steps is not None:
        arrays |= {f"nonfinite_{what}": np.full(lead, -1) for what in ("step", "depth", "quantity")}
    if jacobians:
        arrays |= spectra(near)
    if layers:
        return Readings(arrays | of_layers(near), COORDS | BLOCKS, model)
    return Readings(arrays, COORDS, model)


def of_layers(near) -> dict:
    """What forward passes show: two heads in every other sublayer, one large entry, layers without which the loss grows."""
    arrays = {}
    for name in ("attention_entropy", "attention_entropy_share", "attention_first_token", "attention_largest_logit"):
        arrays[name] = 0.5 * near(S, 2)
        arrays[name][..., 1::2, :] = np.nan
    by_token, by_feature = 3 * near(S + 1, 8), 3 * near(S + 1, 8)
    by_token[..., 2:, 0] = by_feature[..., 2:, 5] = 2000 * near(S - 1)
    arrays |= {"massive_activation_by_token": by_token, "massive_activation_by_feature": by_feature}
    arrays |= {"massive_token": by_token.argmax(-1), "massive_feature": by_feature.argmax(-1)}
    arrays |= {"massive_activation": by_token.max(-1), "largest_activation": by_token.max(-1)}
    for name, number in (("sublayer_removal", S), ("block_removal", S // 2)):
        arrays |= {name: 0.2 * near(number), f"{name}_sem": 0.01 * near(number)}
    sizes = np.array([1e-2, 1e-7])[:, None, None]  # of bfloat16 and of float32
    arrays["rounding_error"] = sizes * near(len(ROUNDINGS), len(ROUNDED), S + 1)
    arrays["lost_share"] = np.zeros_like(near(len(ROUNDINGS), len(LOST), S + 1))
    return arrays


def spectra(near) -> dict:
    """What is read of Jacobians."""
    values = np.sort(near(S, len(JACOBIANS), 6))[..., ::-1]
    return {
        "singular_values": values,
        "largest_singular_value": values[..., 0],
        "smallest_singular_value": values[..., -1],
        "singular_value_quantiles": np.moveaxis(np.quantile(values, QUANTILES, axis=-1), 0, -1),
        "jacobian_gain": (values**2).mean(-1),
        "log_volume": np.log(values).sum(-1),
        "spectral_density": near(S, len(JACOBIANS), len(LOG_SIGMA)) / len(LOG_SIGMA),
        "spectrum_probes": np.zeros(values.shape[:-1], int),
        "lost_directions": np.zeros(values.shape[:-1], int),
        "rank_deficit": np.zeros(values.shape[:-1], int),
        "lyapunov_exponent": 0.1 * near(2),
        "lyapunov_exponent_sem": 0.01 * near(2),
        "cotangent_share": 0.3 * near(S + 1, 2),
        "token_mean_share": 0.4 * near(S + 1, 2),
    }


@cache
def models_of(depth: int = 2) -> dict:
    """Two models whose configurations the nodes have."""
    return gf.transformers("pre", "post", **{**SHAPE, "depth": depth})


def tree(
    names=("pre", "post"), *, seeds=3, steps=None, jacobians=False, layers=False, spoil=None, models=None, **attributes
):
    """A tree as `measure` returns it, or, with steps, as `train` does; `spoil(arrays by name)` may change the numbers."""
    made = list((models or models_of()).values())
    found = {name: readings(seeds, steps, i, jacobians, layers, made[i % len(made)]) for i, name in enumerate(names)}
    if spoil is not None:
        spoil({name: own.arrays for name, own in found.items()})
    leading = ({} if steps is None else {"step": np.array(steps)}) | {"seed": np.arange(seeds)}
    origin = {"command": "gradflow measure", "commit": None, "versions": {"jax": "1"}}
    how = {"provenance": origin, "data": TEXT, "key": "0", "batches": "shared by seeds"}
    if steps is not None:
        how |= {"batches": "one a seed and step", "steps": steps[-1], "recipe": gf.Recipe()}
    return label(found, leading=leading, **{**how, **attributes})


def sweep(names=("pre", "post"), *, depths=(6, 12, 24), **options) -> xr.DataTree:
    """A tree as `sweep` over depth returns it."""
    nodes: dict[str, xr.Dataset] = {}
    for n in depths:
        made = tree(names, models=models_of(n), **options)
        nodes.setdefault("/", made.to_dataset())
        for name in names:
            nodes[f"{name}/depth_{n}"] = made[name].to_dataset(inherit=False).assign_attrs(total_depth=n, width=8)
    return xr.DataTree.from_dict(nodes)


def without(*seeds: int, of: str | None = None, value=np.nan, from_step: int = 0):
    """Spoils all that was read of those seeds, of one model or of all."""

    def spoil(models):
        for name, arrays in models.items():
            steps = "nonfinite_step" in arrays
            for array in arrays.values():
                if of in (None, name) and array.dtype.kind == "f":
                    array[(slice(from_step, None), list(seeds)) if steps else (list(seeds),)] = value

    return spoil
