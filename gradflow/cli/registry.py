"""The commands by name: each is registered by `command`, and run once the whole command line is parsed."""

import os
import sys
from collections.abc import Callable
from functools import partial, wraps

import tyro

from ..compiler import check_flags

NO_CACHE = "--no-cache"  # in front of a command's options or among them
app = tyro.extras.SubcommandApp()
Flat = tyro.conf.OmitArgPrefixes
COMMANDS: list[str] = []


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Registers a command, which is run once the whole command line is parsed."""

    @wraps(function)
    def deferred(*arguments, **options) -> Callable[[], None]:
        return partial(function, *arguments, **options)

    COMMANDS.append(function.__name__)
    app.command(deferred)
    return function


def prepare() -> None:
    """Checks what the compiler was told, has figures drawn without a screen, and compiled programs kept."""
    check_flags()
    draw_without_a_screen()
    keep_programs()


def keep_programs() -> None:
    """Has compiled programs kept between commands, unless that is turned off, or JAX was told where to keep its own.

    Where they can't be kept, a note says why, and all are compiled.
    """
    import jax

    from ..compiling.caching import FOLDER, OFF, cache

    if os.environ.get(FOLDER) in OFF or jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        cache()
    except OSError as error:
        print(f"note: compiled programs are not kept: {error}, by {FOLDER}", file=sys.stderr)


def without_cache(words: list[str]) -> list[str]:
    """Returns the words of a command line without `NO_CACHE`, which is obeyed."""
    if NO_CACHE in words:
        from ..compiling.caching import FOLDER

        os.environ[FOLDER] = "off"
    return [word for word in words if word != NO_CACHE]


def draw_without_a_screen() -> None:
    """Lets matplotlib write files alone, on a machine without a screen too."""
    import matplotlib

    matplotlib.use("agg")
