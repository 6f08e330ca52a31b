"""The commands by name: each is registered by `command`, and run once the whole command line is parsed."""

from collections.abc import Callable
from functools import partial, wraps

import tyro

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


def draw_without_a_screen() -> None:
    """Lets matplotlib write files alone, on a machine without a screen too."""
    import matplotlib

    matplotlib.use("agg")
