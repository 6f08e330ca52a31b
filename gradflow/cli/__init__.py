"""The command line, bottom up: console, options, listing, commands."""

from .commands import main
