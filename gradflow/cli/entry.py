"""The entry point: every command is imported here, which registers it."""

import sys
from functools import partial

import tyro

from . import commands, verification  # noqa: F401
from .console import parsed, speaking
from .registry import COMMANDS, app


def main() -> None:
    """Entry point of the `gradflow` command."""
    words = sys.argv[1:]
    if words == ["--version"]:
        words = ["version"]
    with speaking(words):
        parse = partial(
            app.cli,
            prog="gradflow",
            description="How gradients travel through deep residual stacks.",
            config=(tyro.conf.OmitArgPrefixes,),
        )
        parsed(parse, words, list(COMMANDS))()
