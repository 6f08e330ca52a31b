"""The command line, bottom up: options, commands."""

from .commands import main
