"""gradflow: how gradients travel through deep residual stacks, measured factor by factor.

A table of contents: each name is imported from its room when it is first used, so that `gradflow --help` is quick.
"""

from importlib import import_module

HOME = {
    "transformer": "model.stack",
    "transformers": "model.stack",
    "Transformer": "model.stack",
    "Segment": "model.stack",
    "Sublayer": "model.stack",
    "Wiring": "model.wiring",
    "layers": "model.layers",
    "walk": "model.equation",
    "meter": "instruments.meter",
    "jacobians": "instruments.jacobians",
    "measure": "instruments.readings",
    "sweep": "instruments.readings",
    "train": "training.loop",
    "data": "training.data",
    "laws": "laws",
    "results": "results",
    "report": "report",
    "plot": "report.plot",
}
__all__ = list(HOME)


def __getattr__(name: str):
    if name not in HOME:
        raise AttributeError(f"gradflow has no {name!r}; it has {', '.join(HOME)}")
    room = import_module(f".{HOME[name]}", __name__)
    return room if HOME[name].split(".")[-1] == name else getattr(room, name)


def __dir__() -> list[str]:
    return __all__
