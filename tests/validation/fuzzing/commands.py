"""Command lines: every option of every command with words that are right, and words that must be refused."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from . import checks, world
from .cases import EITHER, HUGE, REFUSED, RIGHT, Line, together
from .checks import need
from .options import BAD_WORDS, COMMANDS, OWN, SIZES, UNKNOWN
from .world import command

# ---- what words may say -------------------------------------------------------------------------------------


def _file(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def empty() -> str:
    """An empty file."""
    return _file("empty.txt", b"")


def short() -> str:
    """A text of a few bytes."""
    return _file("short.txt", b"too short")


def listed(text: str) -> str:
    """A file of tokens."""
    return _file("listed.txt", text.encode())


def latin() -> str:
    """A text that is not UTF-8."""
    return _file("latin.txt", "größer als je ".encode("latin-1") * 40)


def marked() -> str:
    """A text with a byte-order mark."""
    return _file("marked.txt", b"\xef\xbb\xbf" + b"some text " * 40)


def unicode_name() -> str:
    """A text under a name that is not ASCII."""
    return _file("текст 50%_$x$\\#.txt", b"some text " * 40)


def fifo() -> str:
    """A pipe that nobody writes to."""
    import os

    os.mkfifo("fifo")
    return "fifo"


def loop() -> str:
    """A link to itself."""
    Path("loop").symlink_to("loop")
    return "loop"


def linked() -> str:
    """A link to a text."""
    Path("linked").symlink_to(world.sample())
    return "linked"


def somebodys() -> str:
    """A folder with somebody's work, which nothing may be added to or taken from."""
    Path("somebodys").mkdir()
    _file("somebodys/thesis.txt", b"years of work")
    return "somebodys"


def hollow() -> str:
    """An empty folder."""
    Path("hollow").mkdir()
    return "hollow"


def own(code: str) -> str:
    """A module of the user's, and the name `x` in it."""
    name = f"mine_{zlib.crc32(code.encode())}"
    _file(f"{name}.py", code.encode())
    return f"{name}:x"


def own_named(name: str) -> str:
    """A wiring of the user's of that name."""
    return own(f"import gradflow as gf; x = gf.Wiring({name!r})")


def toy() -> Path:
    """A trained model's folder."""
    return world.prepared("toy")


def refusing(*words: str, **options) -> None:
    """The command; where it is refused, nothing is written: the folder holds what it held before."""
    before = _there()
    try:
        command(*words, **options)
    except world.Refused:
        need(_there() == before, f"refused, but wrote {sorted(set(_there()) - set(before))[:3]}")
        raise


def _there() -> dict[str, int]:
    """Every file and its size."""
    return {str(path): path.lstat().st_size for path in Path(".").rglob("*") if "__pycache__" not in str(path)}


def printed(*words: str) -> None:
    """A command that prints, and makes nothing."""
    before = _there()
    need(bool(command(*words).strip()), "nothing was printed")
    need(_there() == before, "wrote a file")


NO_WIRINGS = [code for code in (*BAD_WORDS, *OWN, "'pree'", "'--all'") if OWN.get(code) != RIGHT and code != "'--'"]
WRITTEN: list[tuple[str, str]] = [
    ("printed('--version')", RIGHT),
    ("printed('--help')", RIGHT),
    ("printed('-h')", RIGHT),
    ("printed('version')", RIGHT),
    ("printed('wirings')", RIGHT),
    ("printed('wirings', 'pre')", RIGHT),
    ("printed('wirings', 'pre', 'post')", RIGHT),
    ("printed('wirings', own('import gradflow as gf; x = gf.Wiring(\"mine\")'))", RIGHT),
    *((f"printed('{name}', '--help')", RIGHT) for name in (*COMMANDS, "wirings", "version")),
    *(
        (f"refusing('wirings', {code})", REFUSED)
        for code in (*BAD_WORDS, *OWN, "'pree'", "'--all'")
        if OWN.get(code) != RIGHT and code != "'--'"
    ),
    *(
        (f"refusing({code})", REFUSED)
        for code in (
            *BAD_WORDS,
            "'cmpare'",
            "'Compare'",
            "'compare ', '--depth', '1'",
            "'trian'",
            "'help'",
            "'inspekt'",
            "'--vers'",
            "'-x'",
            "'--depth', '1'",
        )
    ),
    *((f"refusing('version', {code})", REFUSED) for code in ("'extra'", "'--all'", "''")),
    ("refusing()", EITHER),
    ("refusing('inspect')", REFUSED),
    ("refusing('inspect', 'a', 'b')", REFUSED),
    *(
        (
            f"complete('out', *asked('inspect'), encoding='{name}')",
            RIGHT,
        )
        for name in ("utf-8", "cp1252", "ascii", "latin-1")
    ),
    *(
        (f"complete('out', *asked('train'), encoding='{name}')", RIGHT)
        for name in ("utf-8", "cp1252", "ascii", "utf-16")
    ),
    ("complete('out', *asked('train'), stub=False)", RIGHT),
    ("complete('out', *asked('compare'))", RIGHT),
    (
        "complete('out', *asked('train', wirings=['pre', own_named('a.b/c 50%')]), stub=False)",
        RIGHT,
    ),
    ("refusing(*asked('train'), '--optimizer', 'rmsprop', '--b1', '0.9')", REFUSED),
    ("refusing(*asked('train'), '--optimizer', 'sgd', '--b2', '0.9')", REFUSED),
    ("refusing(*asked('train'), '--optimizer', 'lion', '--eps', '1')", REFUSED),
    ("complete('out', *asked('train'), '--optimizer', 'sgd', '--momentum', '0.5')", RIGHT),
    ("twice(*asked('train'))", RIGHT),
    ("twice(*asked('inspect'))", RIGHT),
]


def twice(*words: str) -> None:
    """The same command again finds its own folder, and ends with the same numbers."""
    import gradflow as gf

    world.complete("out", *words)
    first = gf.results.load("out/results.nc")
    world.complete("out", *words)
    checks.same(first, gf.results.load("out/results.nc"), rtol=0)


def asked(name: str, **options) -> list[str]:
    """The words of a tiny job, with these options in the place of its own, or beside them."""
    if name == "inspect":
        options = {
            "tokens": _file("own.txt", b"0 1 2 " * 20),
            "context": "5",
            "batch": "2",
            "readings": "backward",
        } | options
        words = [name, options.pop("folder", str(toy()))]
    else:
        options = SIZES | ({"wirings": "pre"} if name == "atlas" else {}) | {"text": str(world.sample())} | options
        words = [name]
    for option, value in options.items():
        words += [f"--{option.replace('_', '-')}", *(value if isinstance(value, list) else [value])]
    return words


def written(name: str, changed: Mapping[str, str], more: str, verdict: str) -> str:
    """The line of code for a command with these options."""
    out = changed.get("out", "'out'")
    options = [f"{option.replace('-', '_')}={code}" for option, code in changed.items() if option != "out"]
    words = [f"*asked({', '.join([repr(name), *options])})", *map(repr, more.split())]
    if verdict == REFUSED or more:
        return f"refusing({', '.join(words)}, '--out', {out})"
    return f"complete({out}, {', '.join(words)})"


def changes(chance: Random) -> Iterator[Line]:
    """Commands with one option changed, or two, or one that is not there, without end."""
    weights = [share for _, share in COMMANDS.values()]
    while True:
        name = chance.choices(list(COMMANDS), weights)[0]
        pools, changed, verdicts, more = COMMANDS[name][0], {}, [], ""
        for option in chance.sample(sorted(pools), 1 + (chance.random() < 0.1)):
            pool = pools[option]
            codes = (
                [code for code, verdict in pool.items() if verdict != RIGHT] if chance.random() < 0.88 else list(pool)
            )
            changed[option] = chance.choice(codes or list(pool))
            verdicts.append(pool[changed[option]])
        if chance.random() < 0.06:
            more = chance.choice(UNKNOWN)
            verdicts.append(REFUSED)
        verdict = together(verdicts)
        needs = ("toy",) if name == "inspect" else ()
        yield Line(written(name, changed, more, verdict), verdict, needs, HUGE in verdicts)


def lines(chance: Random) -> Iterator[Line]:
    """Of all of these."""
    for code, expected in WRITTEN:
        yield Line(code, expected, ("toy",) if "toy()" in code else ())
    yield from changes(chance)
