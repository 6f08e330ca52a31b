"""gradflow: how gradients travel through deep residual stacks. A table of contents, imported when first used."""

import importlib.machinery

from .compiler import apply_cpu_workaround

apply_cpu_workaround()
FLOORS = {
    "": ("laws", "report", "results"),
    "instruments.jacobians": ("chain", "jacobians", "spectrum"),
    "model": ("branches", "layers", "zoo"),
    "model.branches": ("compressed", "experts", "latent"),
    "model.layers": ("norms",),
    "model.stacks": ("encoder_decoder",),
    "report": ("plot",),
    "report.text": ("findings",),
    "theory": ("closed", "gram"),
    "training": ("by_size", "data", "experiments", "optimizers", "record_schedule"),
}
ROOMS = {room: f"{floor}.{room}" if floor else room for floor, rooms in FLOORS.items() for room in rooms}
NAMES = {
    "compiling.caching": ("cache",),
    "costs": ("cost",),
    "instruments.meters.meter": ("meter",),
    "interop.logged": ("logged",),
    "interop.pretrained": ("checkpoint",),
    "model.equation.sublayer": ("walk",),
    "model.wirings.catalogue": ("Placement", "Stage", "Wiring", "wirings"),
    "model.stacks.admin_profiling": ("profiled",),
    "model.zoo": ("architecture", "architectures"),
    "model.stacks.stack": ("Segment", "Stack", "Sublayer"),
    "model.stacks.transformer": ("Transformer", "transformer", "transformers"),
    "programs.diagnosis.diagnose": ("diagnose",),
    "programs.measurement": ("measure",),
    "programs.metered": ("metered",),
    "programs.program": ("Program",),
    "programs.sweep": ("sweep",),
    "published.registry": ("reproduce", "reproductions"),
    "recomputation": ("recompute",),
    "results.grid": ("grid",),
    "results.quantities": ("quantities",),
    "theory.predict": ("predict",),
    "training.atlas": ("atlas",),
    "training.loop": ("train",),
    "training.precision": ("precision",),
    "training.recipe": ("Recipe",),
    "training.record": ("labelled", "record", "recorded"),
}
HOME = {name: module for module, names in NAMES.items() for name in names}
__all__ = sorted({*ROOMS, *HOME})


def __getattr__(name: str):
    if name in __all__:
        module = importlib.import_module(f".{(ROOMS | HOME)[name]}", __name__)
        return module if name in ROOMS else getattr(module, name)
    raise AttributeError(f"gradflow has no {name!r}{_nearest(name)}")


def __dir__() -> list[str]:
    return __all__


def _nearest(name: str) -> str:
    """What was meant, perhaps; nothing where Python itself looks for a module, or for a name of its own."""
    if name.startswith("_") or importlib.machinery.PathFinder.find_spec(name, __path__):
        return ""
    from .results.arguments import nearest

    return f": {nearest(name, __all__) or 'dir(gradflow) lists what there is'}"
