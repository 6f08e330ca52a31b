"""gradflow: how gradients travel through deep residual stacks. A table of contents, imported when first used."""

from importlib import import_module

from .compiler import tell

tell()
ROOMS = {
    "chain": "instruments.chain",
    "closed": "theory.closed",
    "data": "training.data",
    "gram": "theory.gram",
    "jacobians": "instruments.jacobians",
    "laws": "laws",
    "layers": "model.layers",
    "plot": "report.plot",
    "report": "report",
    "results": "results",
    "spectrum": "instruments.spectrum",
}
NAMES = {
    "Segment": "model.stack",
    "Sublayer": "model.stack",
    "Transformer": "model.stack",
    "Wiring": "model.wiring",
    "measure": "instruments.readings",
    "meter": "instruments.meter",
    "predict": "theory.predict",
    "sweep": "instruments.readings",
    "train": "training.loop",
    "transformer": "model.stack",
    "transformers": "model.stack",
    "walk": "model.equation",
}
__all__ = [*ROOMS, *NAMES]


def __getattr__(name: str):
    if name in ROOMS:
        return import_module(f".{ROOMS[name]}", __name__)
    if name in NAMES:
        return getattr(import_module(f".{NAMES[name]}", __name__), name)
    raise AttributeError(f"gradflow has no {name!r}; it has {', '.join(__all__)}")
