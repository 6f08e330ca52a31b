"""Measures how dense a package's code is: how much stands in a function, and how much on a line.

    python tests/validation/density.py [FOLDER ...] [--rooms] [--out density.csv]

A folder is a package's source, by default gradflow's; give the folders of other packages to compare. `--rooms` adds a
row for every folder and module inside each of them. A line of code is a line with a token on it that is no comment and
no docstring. "A thousand" in a column's name means a thousand lines of code. Files that end in `_test.py` are left out.
"""

import argparse
import ast
import csv
import io
import statistics
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
MANY_BRANCHES = 10


class Module:
    """One source file: its syntax tree and its lines of code."""

    def __init__(self, path: Path):
        text = path.read_text(encoding="utf-8")
        self.path = path
        self.tree = ast.parse(text)
        self.lines = _lines_of_code(text, self.tree)

    def nodes(self) -> list[ast.AST]:
        """Returns all syntax nodes; whether a name is read or written is no node of its own."""
        return [node for node in ast.walk(self.tree) if not isinstance(node, ast.expr_context)]


def _lines_of_code(text: str, tree: ast.Module) -> set[int]:
    """Returns the numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        docstring = _docstring(node)
        if docstring is not None:
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return lines


def _docstring(node: ast.AST) -> ast.Expr | None:
    """Returns the statement that is the node's docstring, or None where it has none."""
    if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)):
        return None
    if not node.body or not isinstance(node.body[0], ast.Expr):
        return None
    value = node.body[0].value
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return node.body[0]
    return None


def _length(function: ast.AST) -> int:
    """Returns the lines of a function from its `def` to its end, without its docstring."""
    length = function.end_lineno - function.lineno + 1
    docstring = _docstring(function)
    if docstring is None:
        return length
    return length - (docstring.end_lineno - docstring.lineno + 1)


def _branches(function: ast.AST) -> int:
    """Returns the number of ways a function can go: conditions, loops, handlers, cases and the parts of `and` and `or`."""
    count = 0
    for node in ast.walk(function):
        if isinstance(node, (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.match_case)):
            count += 1
        elif isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
    return count


def _imports(module: Module, package: str) -> set[str]:
    """Returns the names that a module imports from its own package."""
    names: set[str] = set()
    for node in module.nodes():
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level or source.split(".")[0] == package:
                names.update(alias.name for alias in node.names)
    return names


def measured(name: str, modules: list[Module], package: str) -> dict[str, object]:
    """Returns one row of the table: every number of these modules together."""
    counts: dict[str, int] = defaultdict(int)
    importers: dict[str, int] = defaultdict(int)
    lengths: list[int] = []
    code = 0
    for module in modules:
        code += len(module.lines)
        if module.path.name != "__init__.py":
            for imported in _imports(module, package):
                importers[imported] += 1
        nodes = module.nodes()
        counts["nodes"] += len(nodes)
        for node in nodes:
            if isinstance(node, ast.IfExp):
                counts["conditional expressions"] += 1
            elif isinstance(node, COMPREHENSIONS):
                counts["comprehensions"] += 1
            elif isinstance(node, ast.Lambda):
                counts["lambdas"] += 1
            elif isinstance(node, ast.Call):
                called = getattr(node.func, "id", "")
                counts["hasattr and getattr"] += called in ("hasattr", "getattr")
            elif isinstance(node, FUNCTIONS):
                lengths.append(_length(node))
                counts["branched"] += _branches(node) > MANY_BRANCHES
    lengths = sorted(lengths) or [0]
    last = len(lengths) - 1
    thousands = max(code, 1) / 1000
    return {
        "package": name,
        "modules": len(modules),
        "lines of code": code,
        "median function": statistics.median_low(lengths),
        "95% function": lengths[round(0.95 * last)],
        "longest function": lengths[last],
        "nodes a line": round(counts["nodes"] / max(code, 1), 2),
        "conditional expressions a thousand": round(counts["conditional expressions"] / thousands, 1),
        "comprehensions a thousand": round(counts["comprehensions"] / thousands, 1),
        "lambdas a thousand": round(counts["lambdas"] / thousands, 1),
        f"functions of more than {MANY_BRANCHES} branches": counts["branched"],
        "hasattr and getattr": counts["hasattr and getattr"],
        "names imported by two or more": sum(count > 1 for count in importers.values()),
    }


def rows(folder: Path, rooms: bool) -> list[dict[str, object]]:
    """Returns the row of a package and, where asked, a row for every folder and module directly inside it."""
    package = folder.resolve().name
    modules = [Module(path) for path in sorted(folder.rglob("*.py")) if not path.name.endswith("_test.py")]
    table = [measured(package, modules, package)]
    if not rooms:
        return table
    inside: dict[str, list[Module]] = defaultdict(list)
    for module in modules:
        inside[module.path.relative_to(folder).parts[0]].append(module)
    for room, members in sorted(inside.items()):
        table.append(measured(f"{package}/{room}", members, package))
    return table


def main() -> None:
    """Prints the table, or writes it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folders", nargs="*", type=Path, default=[ROOT / "gradflow"])
    options.add_argument("--rooms", action="store_true", help="a row for every folder and module inside")
    options.add_argument("--out", type=Path, help="write the table here rather than to the screen")
    asked = options.parse_args()
    table = []
    for folder in asked.folders:
        table += rows(folder, asked.rooms)
    stream = sys.stdout if asked.out is None else asked.out.open("w", newline="", encoding="utf-8")
    writer = csv.DictWriter(stream, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


if __name__ == "__main__":
    main()
