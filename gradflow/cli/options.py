"""What can be said on the command line, as frozen dataclasses: options have the names the Python arguments have."""

import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

from .console import one_line, quietly

CONSTANTS = ("momentum", "nesterov", "b1", "b2", "beta", "decay", "eps", "weight_decay")


def shown(metavar: str, default: str) -> Any:
    """How an option is listed that is None unless it is given: what it takes, and what stands for it."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


ALL_OR = tyro.conf.arg(help_behavior_hint=lambda default: f"(default: {default or 'all'})")


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
        """`(models, data)`."""
        import gradflow as gf

        shape = ("depth", "width", "heads", "context", "init", "precision")
        data = gf.data.text(self.text, context=self.context, batch=self.batch)
        return gf.transformers(*map(own, self.wirings), **{name: getattr(self, name) for name in shape}), data


def own(word: str):
    """A name as it is; the `Wiring` or `Placement` that `module:name` means, from the folder one stands in or an installed one.

    Errors: ValueError where there is none.
    """
    if ":" not in word:
        return word
    import gradflow as gf

    from ..results.arguments import shown as cut

    module, name = word.split(":", 1)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with quietly():
            found = getattr(import_module(module), name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # of whatever that file does
        why = one_line(error, 120) if isinstance(error, Exception) else f"it ends by {type(error).__name__}"
        raise ValueError(f"no wiring {cut(word)}: {why}; give module:name of a gf.Wiring in {Path.cwd()}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(found, gf.Wiring | gf.Placement):
        raise ValueError(
            f"{cut(word)[1:-1]} is a {type(found).__name__}: give the module:name of a gf.Wiring or gf.Placement"
        )
    return found


@dataclass(frozen=True)
class Updates:
    """How weights are updated."""

    optimizer: str = "adam"
    """adam, adamw, lion, muon, rmsprop or sgd."""
    lr: float = 1e-3
    """Learning rate; the largest, where it changes."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly."""
    schedule: str = "constant"
    """What follows: constant, linear, cosine or inverse_sqrt."""
    clip: Annotated[float | None, shown("FLOAT", "none")] = None
    """Largest norm of the whole gradient."""
    clip_parameter: Annotated[float | None, shown("FLOAT", "none")] = None
    """Largest norm of each parameter's gradient, layer by layer."""
    dropout: float = 0.0
    """Share of each branch's output that is dropped in training."""
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
        """The `Recipe`."""
        from ..training.optimizers import named
        from ..training.recipe import Recipe

        given = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        constants = {name: given.pop(name) for name in CONSTANTS if name in given}
        return Recipe(named(given.pop("optimizer"), **constants), **given)


@dataclass(frozen=True)
class Extent:
    """How long, and where the result goes."""

    steps: int = 100
    """Updates."""
    seeds: int = 4
    """Draws of weights and batches, the same for every wiring."""
    key: int = 0
    """The integer that all randomness derives from."""
    out: Path = Path("gradflow-run")
    """A folder that is new, empty, or holds an earlier result of the same configuration."""


@dataclass(frozen=True)
class Run(Extent):
    """How long, where the result goes, and how an interruption is met."""

    checkpoint_every: Annotated[int | None, shown("INT", "every half minute")] = None
    """Steps between checkpoints."""
    resume: bool = False
    """Continue the interrupted run in that folder; it ends with the bits of one that was not interrupted."""

    def options(self) -> dict:
        """What `gf.train` takes."""
        from ..results.folder import CHECKPOINTS

        return {**{k: v for k, v in asdict(self).items() if k != "out"}, "checkpoints": self.out / CHECKPOINTS}


@dataclass(frozen=True)
class Trained:
    """What a trained model reads, and what is measured of it."""

    text: Path | None = None
    """A file, cut into tokens by the tokenizer in the model's folder; by default the language reference that CPython ships."""
    tokens: Path | None = None
    """Instead of a text: a file of whole numbers, as text or as an array (.npy)."""
    context: int = 64
    """Tokens of an example."""
    batch: int = 8
    """Examples of a batch."""
    readings: tuple[str, ...] = ()
    """Names of readings and quantities: spectrum (of a whole example), lyapunov and alignment take long where a stream is wide.
    By default backward, partial_jacobian and, of streams up to 1024 wide, spectrum_window (the first tokens)."""
    begin: str = "auto"
    """What every example begins with, counted in its context: auto (what the tokenizer puts around a text), none, or a token."""
    mask: int | None = None
    """The token that hides what a model that sees all tokens is asked for; by default the one that its folder names."""
    tied: bool = False
    """Read the logits by the token table, whatever head the files have, or have not."""
    precision: str | None = None
    """float32, or float64, which needs JAX_ENABLE_X64=1."""
