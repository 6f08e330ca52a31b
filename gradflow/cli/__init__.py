"""The command line, bottom up: console, options, listing, registry, commands, verification, entry."""

from .entry import main
