"""The readings that yield quantities: their names, the calls that take them, and their cost.

Instruments, training, theory and reports all take readings, so this table is below all of them. Each reading is listed once,
however many quantities it yields; the figure of a quantity is in the quantity's own row.

In costs B is the number of examples, T that of tokens, n that of entries of one example's stream.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A reading: the `calls` that take it, its `cost`, and `of`, the part of another reading that it is, where it is one."""

    name: str
    cost: str
    calls: tuple[str, ...]
    of: str = ""


def _measured(name: str, cost: str, of: str = "") -> Source:
    """Returns a reading of a model's weights: by `measure` at one moment, by `train` at recorded steps."""
    calls = (f'gf.measure(..., quantities="{name}")', f'gf.train(..., readings="{name}")')
    return Source(name, cost, calls, of)


def _of_updates(name: str, cost: str) -> Source:
    """Returns a reading of an update, which only a training has."""
    return Source(name, cost, (f'gf.train(..., readings="{name}")',))


def predicting(reading: str) -> str:
    """Returns the call that predicts the quantities of a reading."""
    return f'gf.predict(..., quantities="{reading}")'


_ALL = (
    _measured("backward", "one backward pass of the batch, and a few reductions a sublayer"),
    _measured(
        "economy",
        "one backward pass of the batch, and a reduction a sublayer",
        of="of backward: loss, stream and parameter gradients, and the stream's rms",
    ),
    _measured(
        "rematerialized",
        "one backward pass of the batch, and at most one more forward pass; memory of one stream a block",
        of="all of backward, in less memory",
    ),
    _measured("parameter_gradient_per_example", "one backward pass of the batch, and one of each example in turn"),
    _measured("heldout_loss", "one forward pass; in training, of the held-out batch at every recorded step"),
    _measured("partial_jacobian", "`probes` backward passes of the batch for each of the two kinds of probe"),
    _measured(
        "spectrum",
        "of one example, for each sublayer and factor: O(T c³) where tokens of c entries are not coupled; O(n³) up to n = "
        "`dense`; beyond, at most 4 · `probes` · `iterations` passes through the sublayer, and for the smallest singular value "
        "at most 4 · `solves` for each block of tokens; where tokens read those behind them too, O(n³) up to n = 4096, and "
        "beyond at most 4 · `solves` · `solver_iterations`",
    ),
    _measured(
        "spectrum_window",
        "of one example, for each sublayer and factor: O(n³), n entries of its first tokens, at most `dense`",
        of="spectrum of the first tokens alone",
    ),
    _measured("lyapunov", "of one example: one forward pass, and k = `leading` pushes and a QR of [n, k] a sublayer"),
    _measured(
        "alignment",
        "that of lyapunov, one backward pass of one example, and memory of k = `leading` streams a position",
    ),
    _measured(
        "end_to_end",
        "that of lyapunov with one direction, and 4 · `iterations` passes of one example through the stack for each start",
    ),
    _measured("composite_gain", "one forward pass of one example, and as many skips a sublayer as there are lanes"),
    _measured("expert_load", "one forward pass of the batch, and the routers once more"),
    _measured("similarity", "one forward pass of each example in turn, and O(S² T c), c entries a token"),
    _measured("attention", "one forward pass of each example in turn"),
    _measured("activations", "one forward pass of each example in turn, and a sort of its stream at each position"),
    _measured("layer_removal", "a forward pass of the batch for each sublayer and for each block, and one more"),
    _measured(
        "rounding",
        "six backward passes of the batch, a third of them in float64, and memory of the stream and its gradient everywhere",
    ),
    _of_updates("update", "a few reductions over the parameters"),
    _of_updates("change", "two forward passes of the batch"),
    Source("train", "nothing beyond the backward pass that training does", ("gf.train(...)",)),
    Source(
        "record",
        "that of the global norms of gradients and weights, at every update",
        ('gf.labelled(gf.recorded(state)), state of an optimizer that has gf.record("gradient")',),
    ),
    Source("logged", "that of reading a file that another tool wrote", ("gf.logged(...)",)),
    Source(
        "sensitivity", "one training for each recipe", ("gf.findings.sensitivity(gf.experiments.sensitivity(...))",)
    ),
    Source(
        "predict",
        "O((B T)²) a sublayer; for attention 8 B² T³ · `draws` · `replicas` multiplications, and as many for the way back",
        ("gf.predict(...)",),
        of="loss, gradients, budget, split, signal and partial Jacobian, expected over draws of fresh weights",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
