"""What the words of a command line name: wirings, programs in files, models with their text, recipes.

Errors: ValueError, one line, where there is no such thing; whatever somebody's own file does.
"""

import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

from .model.stacks.transformer import transformers
from .model.wirings.catalogue import Placement, Wiring
from .model.wirings.catalogue import wirings as wiring_table
from .results.arguments import known, shown
from .training import data as texts
from .training.optimizers import named as optimizer_named
from .training.recipe import Recipe

CONSTANTS = ("momentum", "nesterov", "b1", "b2", "beta", "decay", "eps", "weight_decay")  # of optimizers
WHY = 120  # characters of another module's error


def wiring(word: str) -> str | Wiring | Placement:
    """Returns a name unchanged; for `module:name` the `Wiring` or `Placement` of that name.

    The module is looked for in the working directory and among the installed ones. What it prints is not shown.

    Errors: ValueError where there is none.
    """
    if ":" not in word:
        return word
    module, name = word.split(":", 1)
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            value = getattr(import_module(module), name)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # of whatever that file does
        remedy = f"give module:name of a gf.Wiring in {Path.cwd()}"
        raise ValueError(f"no wiring {shown(word)}: {_why(error)}; {remedy}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(value, Wiring | Placement):
        kind = type(value).__name__
        raise ValueError(f"{shown(word)[1:-1]} is a {kind}: give the module:name of a gf.Wiring or gf.Placement")
    return value


def program(word: str) -> tuple:
    """Returns `(loss_fn, params, batch)` of `FILE.py:NAME`: a tuple of these, or a function without arguments that returns it.

    Errors: ValueError where there is none.
    """
    path, _, name = word.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        remedy = "give FILE.py:NAME, NAME a function that returns (loss_fn, params, batch)"
        raise ValueError(f"no program {shown(word)}: {remedy}")
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"no file {path}")
    sys.path.insert(0, str(file.parent))
    try:
        with redirect_stdout(StringIO()):
            spec: Any = spec_from_file_location(file.stem, file)
            module = module_from_spec(spec)
            sys.modules.setdefault(file.stem, module)
            spec.loader.exec_module(module)
            value = getattr(module, name)
            value = value() if callable(value) else value
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # of whatever that file does
        raise ValueError(f"{word} gives no program: {_why(error)}") from None
    finally:
        sys.path.pop(0)
    if not isinstance(value, tuple) or len(value) != 3:
        raise ValueError(f"{word} gives a {type(value).__name__}: (loss_fn, params, batch) is needed")
    return value


def _why(error: BaseException) -> str:
    """Returns what ended an import, in one line."""
    if not isinstance(error, Exception):
        return f"it ends by {type(error).__name__}"
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= WHY:
        return text
    return f"{text[:WHY]}…"


def models_and_text(*, wirings, text, batch: int, **shape) -> tuple[dict, texts.Text]:
    """Returns the stacks by name, and the text they read; `shape` as for `transformers`."""
    data = texts.text(text, context=shape["context"], batch=batch)
    return transformers(*map(wiring, wirings), **shape), data


def recipe(*, optimizer: str, **options) -> Recipe:
    """Returns the recipe with the options that are given; those of the optimizer are its constants."""
    constants, others = {}, {}
    for name, value in options.items():
        if value is None or value is False:
            continue
        if name in CONSTANTS:
            constants[name] = value
        else:
            others[name] = value
    return Recipe(optimizer_named(optimizer, **constants), **others)


def wiring_rows(names) -> Any:
    """Returns the rows of the table of wirings that are asked for; a wiring given as `module:name` has its own row.

    By default all rows, those of the given wirings last.
    """
    table_names = [word for word in names if ":" not in word]
    given: list[Any] = [wiring(word) for word in names if ":" in word]
    table = wiring_table(*given)
    if not table_names:
        return table
    chosen = [known("wiring", word, table.index) for word in table_names]
    chosen += [one.name for one in given]
    return table.loc[list(dict.fromkeys(chosen))]
