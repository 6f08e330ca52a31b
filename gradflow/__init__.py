"""gradflow: how gradients travel through deep residual stacks. A table of contents, imported when first used."""

from importlib import import_module

from .compiler import tell

tell()
FLOORS = {
    "instruments": ("chain", "jacobians", "spectrum"),
    "model": ("branches", "layers", "norms", "zoo"),
    "report": ("findings", "plot"),
    "theory": ("closed", "gram"),
    "training": ("data", "experiments", "moments", "optimizers"),
}
TOP = ("laws", "report", "results")
ROOMS = {room: f"{floor}.{room}" for floor, rooms in FLOORS.items() for room in rooms} | {name: name for name in TOP}
NAMES = {
    "instruments.meter": ("meter",),
    "instruments.readings": ("measure", "sweep"),
    "interop.checkpoints": ("checkpoint",),
    "model.equation": ("walk",),
    "model.catalogue": ("Placement", "Stage", "Wiring", "wirings"),
    "model.profile": ("profiled",),
    "model.zoo": ("architecture", "architectures"),
    "model.stack": ("Segment", "Sublayer", "Transformer", "transformer", "transformers"),
    "theory.predict": ("predict",),
    "training.atlas": ("atlas",),
    "training.loop": ("train",),
    "training.recipe": ("Recipe",),
    "training.record": ("labelled", "record", "recorded"),
}
HOME = {name: module for module, names in NAMES.items() for name in names}
__all__ = sorted({*ROOMS, *HOME})


def __getattr__(name: str):
    if name in ROOMS:
        return import_module(f".{ROOMS[name]}", __name__)
    if name in HOME:
        return getattr(import_module(f".{HOME[name]}", __name__), name)
    raise AttributeError(f"gradflow has no {name!r}; it has {', '.join(__all__)}")
