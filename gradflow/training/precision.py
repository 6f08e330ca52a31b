"""The precision audit: what bfloat16 and float32 change of every reading, at initialization and after a training."""

from collections.abc import Mapping

import jax
import xarray as xr

from ..model.stacks.transformer import Transformer
from ..results.arguments import answering, of_class
from .loop import train
from .recipe import Recipe


@answering(train, without=("record", "readings"))
def precision(models, data, optimizer=Recipe(), *, steps: int = 100, **options) -> xr.DataTree:
    """Returns the errors of rounding of every reading by depth, and what is lost, over `step` (0 and the last) and `seed`.

    The same weights and batch in bfloat16, float32 and float64, which is the reference (`instruments.rounding`). Training is in
    each model's own precision. `gf.plot.precision` draws the tree, `gf.report.tables.precision` has its tables, and
    `gf.findings.precision(tree)` says what came out. Of given weights the same is read by
    `gf.measure(model, batch, params=…, quantities="rounding")`, under jax_enable_x64.

    Parameters
    ----------
    models : a Transformer, or `{name: Transformer}`
    data, optimizer, steps, options : as of `train`; Adam at 1e-3

    Cost: that of `train`, and at both ends six backward passes of the batch, a third of them in float64.
    Errors: TypeError for what is no Transformer; ValueError as `train`.
    """
    members = models if isinstance(models, Mapping) else {"model": models}
    for name, model in members.items():
        of_class(f"{name}, whose precision is audited,", model, Transformer)
    ends = sorted({0, steps})
    with jax.enable_x64(True):
        return train(members, data, optimizer, steps=steps, record=ends, readings=("rounding",), **options)[1]
