"""The command line, bottom up: console, options, commands."""

from .commands import main
