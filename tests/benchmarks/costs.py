"""Estimates of `gf.cost` beside what the calls took: processor seconds of running and compiling, their ratio, call by call."""

import time
from collections.abc import Callable

import jax

import gradflow as gf

DATA = gf.data.text(context=32, batch=4)
MODELS = {"pre": gf.transformer("pre", depth=6, width=64, heads=4)}


def calls() -> dict[str, tuple[Callable, tuple, dict]]:
    """Calls by name: the function, its arguments, its options."""
    recipe = gf.Recipe("adam", lr=1e-3)
    return {
        "measure, 8 seeds": (gf.measure, (), {"seeds": 8}),
        "measure, 32 seeds": (gf.measure, (), {"seeds": 32, "key": 1}),
        "measure, partial Jacobian": (gf.measure, (), {"seeds": 4, "quantities": ("partial_jacobian",)}),
        "predict": (gf.predict, (), {}),
        "train, 30 steps": (gf.train, (recipe,), {"steps": 30, "seeds": 2, "record": (0, 30)}),
        "sweep": (gf.sweep, (), {"depth": (3, 12), "seeds": 4}),
        "spectra": (gf.measure, (), {"seeds": 2, "quantities": ("spectrum",)}),
        "atlas": (gf.atlas, (), {"predict": gf.predict}),
    }


def took(function: Callable, arguments: tuple, options: dict) -> tuple[float, float]:
    """Processor seconds of a call with its compiling, and of the same call again."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        function(MODELS, DATA, *arguments, **options)
        seconds.append(time.process_time() - start)
    return seconds[0], seconds[1]


def main() -> None:
    gf.measure(gf.transformer("none", depth=1, width=8, heads=1), DATA, seeds=1)  # what every first call imports
    print(f"jax {jax.__version__}; seconds: estimated (running), taken cold (again), ratio of estimate to cold")
    for name, (function, arguments, options) in calls().items():
        estimated = gf.cost(function, MODELS, DATA, *arguments, **options)
        cold, again = took(function, arguments, options)
        ratio = estimated.seconds / cold
        print(
            f"{name:28} {estimated.seconds:6.1f} ({estimated.running:5.1f})  {cold:6.1f} ({again:5.1f})  {ratio:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
