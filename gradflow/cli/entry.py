"""The entry point: every command is imported here, which registers it."""

import sys
from functools import partial

import tyro

from . import commands, verification  # noqa: F401
from .console import parsed, speaking
from .registry import COMMANDS, app, without_cache

DESCRIPTION = (
    "How gradients travel through deep residual stacks. Compiled programs are kept for the next command, in the user's cache "
    "folder or the one that GRADFLOW_CACHE names; not with --no-cache."
)


def main() -> None:
    """Entry point of the `gradflow` command."""
    words = without_cache(sys.argv[1:])
    if words == ["--version"]:
        words = ["version"]
    with speaking(words):
        parse = partial(
            app.cli,
            prog="gradflow",
            description=DESCRIPTION,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        parsed(parse, words, list(COMMANDS))()
