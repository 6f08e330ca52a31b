"""Command-line options, as frozen dataclasses: they have the names that the Python arguments have."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


def shown(metavar: str, default: str) -> Any:
    """Returns the listing of an option that is None by default: the kind of its value, and the default it stands for."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


def _all_by_default(default: str) -> str:
    return f"(default: {default or 'all'})"


ALL_OR = tyro.conf.arg(help_behavior_hint=_all_by_default)


@dataclass(frozen=True)
class Models:
    """The stacks, which differ in their wiring alone, and the text they read."""

    wirings: Annotated[tuple[str, ...], ALL_OR] = ("pre", "post")
    """Names of `gradflow wirings`, or your own as module:name, a value in a Python file here."""
    depth: int = 12
    """Blocks (attention, then feed-forward)."""
    width: int = 64
    """Features of the stream."""
    heads: int = 4
    """Attention heads; they must divide the width."""
    context: int = 64
    """Tokens of an example."""
    batch: int = 8
    """Examples of a batch."""
    init: str = "fan_in"
    """fan_in, xavier, xiong, bert, bert_literal or gpt2."""
    precision: Annotated[str | None, shown("STR", "that of the weights, float32")] = None
    """bfloat16 (weights stay float32), float32, or float64, which needs JAX_ENABLE_X64=1."""
    text: Annotated[Path | None, shown("PATH", "the language reference that CPython ships")] = None
    """A file, read as bytes. Its last tenth is held out."""

    def built(self):
        """Returns `(models, data)`."""
        from ..named import models_and_text

        return models_and_text(**asdict(self))


@dataclass(frozen=True)
class Updates:
    """The optimizer and its learning rate."""

    optimizer: str = "adam"
    """adam, adamw, lion, muon, rmsprop or sgd."""
    lr: float = 1e-3
    """Learning rate; the largest, where it changes."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly."""
    schedule: str = "constant"
    """The learning rate after the warm-up: constant, linear, cosine or inverse_sqrt."""
    clip: Annotated[float | None, shown("FLOAT", "none")] = None
    """Largest norm of the whole gradient."""
    clip_parameter: Annotated[float | None, shown("FLOAT", "none")] = None
    """Largest norm of each parameter's gradient, layer by layer."""
    dropout: float = 0.0
    """Share of each branch's output that is dropped in training."""
    attention_dropout: float = 0.0
    """Share of attention's probabilities that is dropped in training."""
    momentum: Annotated[float | None, shown("FLOAT", "0")] = None
    """Of sgd."""
    nesterov: bool = False
    """Of sgd."""
    b1: Annotated[float | None, shown("FLOAT", "0.9")] = None
    """Of adam, adamw, lion and muon."""
    b2: Annotated[float | None, shown("FLOAT", "0.999; lion: 0.99")] = None
    """Of adam, adamw, lion and muon."""
    beta: Annotated[float | None, shown("FLOAT", "0.95")] = None
    """Of muon."""
    decay: Annotated[float | None, shown("FLOAT", "0.9")] = None
    """Of rmsprop."""
    eps: Annotated[float | None, shown("FLOAT", "1e-08")] = None
    """Of adam, adamw, muon and rmsprop."""
    weight_decay: Annotated[float | None, shown("FLOAT", "0; adamw: 0.01")] = None
    """Of adam, adamw and lion."""

    def built(self):
        """Returns the `Recipe`."""
        from ..named import recipe

        return recipe(**asdict(self))


@dataclass(frozen=True)
class Extent:
    """Steps, seeds, and the folder of the result."""

    steps: int = 100
    """Updates."""
    seeds: int = 4
    """Draws of weights and batches, the same for every wiring."""
    key: int = 0
    """The integer that all randomness derives from."""
    out: Path = Path("gradflow-run")
    """A folder that is new or empty, or holds an interrupted run of the same configuration."""
    blind: bool = False
    """Leave out of the bundle all that tells whose it is: paths, commits, hosts, users, kernels; keep no checkpoints."""
    overwrite: bool = False
    """A finished run of the same configuration in that folder may be overwritten."""


@dataclass(frozen=True)
class Run(Extent):
    """Steps, seeds, the folder of the result, and checkpoints."""

    checkpoint_every: Annotated[int | None, shown("INT", "every half minute")] = None
    """Steps between checkpoints."""
    resume: bool = False
    """Continue the interrupted run in that folder; it ends with the bits of one that was not interrupted."""


@dataclass(frozen=True)
class Trained:
    """The text that a trained model reads, and its measurements."""

    text: Path | None = None
    """A file, cut into tokens by the tokenizer in the model's folder; by default the language reference that CPython ships."""
    tokens: Path | None = None
    """Instead of a text: a file of whole numbers, as text or as an array (.npy)."""
    context: int = 64
    """Tokens of an example."""
    batch: int = 8
    """Examples of a batch."""
    readings: tuple[str, ...] = ()
    """Names of readings and quantities, such as layer_removal; spectrum (of a whole example), lyapunov and alignment take long
    where a stream is wide. By default backward, attention, activations, partial_jacobian and, of streams up to 1024 wide,
    spectrum_window (the first tokens)."""
    begin: str = "auto"
    """The token in front of every example, counted in its context: auto (as the tokenizer marks a text), none, or a number."""
    mask: int | None = None
    """The token that masks others, for a model that sees all tokens; by default the one that its folder names."""
    tied: bool = False
    """Read the logits by the token table, whichever head the files have."""
    precision: str | None = None
    """float32, or float64, which needs JAX_ENABLE_X64=1."""
