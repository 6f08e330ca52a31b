"""Command lines: every option of every command with words that are right, and words that must be refused."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from . import world
from .cases import EITHER, HUGE, REFUSED, RIGHT, Line, Pool, misspelt, together, words
from .world import command, need

TOY = words(r"""
    --depth | 1 | --width | 8 | --heads | 2 | --context | 8 | --batch | 2 | --steps | 1 | --seeds | 2 | --text
""")
BAD_WORDS = words(r"""
    '' | ' ' | 'é' | '\udcff' | 'a' * 5000 | 'None' | '[]' | '-' | '--' | '=1' | '1;2' | '$(x)' | '%s' | '\n' | '🙂'
    'null'
""")
NOT_WHOLE = (
    *BAD_WORDS,
    "'1.5'",
    "'one'",
    "'nan'",
    "'1e3'",
    "'0x10'",
    "'True'",
    "'∞'",
    "'1,0'",
    "'1 2'",
    "'1.0'",
    "'9' * 5000",
    "'²'",
    "'--1'",
    "'1/2'",
)
MAYBE_WHOLE = {"'1_0'": EITHER, "'１'": EITHER, "'+1'": EITHER}
BELOW = ("'0'", "'-1'", "'-999999999999999999999'", "'-9223372036854775809'")
LARGE = ("'1000000000'", "'9223372036854775807'", "'9223372036854775808'", "'99999999999999999999'", "'1000000000000'")
NOT_REAL = (
    *BAD_WORDS,
    "'nan'",
    "'inf'",
    "'-inf'",
    "'one'",
    "'1e999'",
    "'0,5'",
    "'1/2'",
    "'1 2'",
    "'1e'",
    "'NaN'",
    "'infinity'",
)


def whole(*good: str, least: int = 1, bad: Sequence[str] = (), large: str = HUGE) -> dict:
    """Words for a whole number from `least` on."""
    pool = dict.fromkeys((*NOT_WHOLE, *BELOW, *bad), REFUSED) | dict.fromkeys(LARGE, large) | MAYBE_WHOLE
    if least <= 0:
        pool.pop("'0'")
    return pool | dict.fromkeys(map(repr, good), RIGHT)


def real(*good: str, bad: Sequence[str] = (), maybe: Sequence[str] = ()) -> dict:
    """Words for a finite number."""
    pool = dict.fromkeys((*NOT_REAL, *map(repr, bad)), REFUSED) | dict.fromkeys(map(repr, maybe), EITHER)
    return pool | dict.fromkeys(map(repr, good), RIGHT)


def names(*good: str) -> dict:
    """Words for one of some names."""
    wrong = [code for name in good for code in misspelt(name) if code not in map(repr, good)]
    return dict.fromkeys((*BAD_WORDS, *wrong, "'3'"), REFUSED) | dict.fromkeys(map(repr, good), RIGHT)


def several(pool: Pool, *more: str, right: Sequence[str] = (), either: Sequence[str] = ()) -> dict:
    """Words for one or more of some names; `more` are lists of words that are refused."""
    return {**pool, **dict.fromkeys(more, REFUSED), **dict.fromkeys(right, RIGHT), **dict.fromkeys(either, EITHER)}


FILES = words(r"""
    'missing.txt' | '.' | '/' | 'a' * 300 | '' | fifo() | '/dev/null' | empty() | '/proc/self/mem' | short()
    loop() | 'no/such/file' | '\udcff' | '/dev/zero' | '/dev/stdin'
""")
TEXTS = dict.fromkeys(FILES, REFUSED) | {
    "str(sample())": RIGHT,
    "linked()": RIGHT,
    "latin()": RIGHT,
    "marked()": RIGHT,
    "unicode_name()": RIGHT,
}
OUT = dict.fromkeys(
    words(r"""
        somebodys() | short() | short() + '/inside' | fifo() | '/dev/null' | '/proc/x' | '/dev/null/x' | loop()
        'a' * 300 | '/sys/x' | '.'
    """),
    REFUSED,
)
OUT |= {
    "'out'": RIGHT,
    "'a/b/c'": RIGHT,
    "'é'": RIGHT,
    "'with blank'": RIGHT,
    "'%s'": RIGHT,
    "'.hidden'": RIGHT,
    "hollow()": RIGHT,
    "'\\udcff'": EITHER,
    "''": REFUSED,
    "'a\\nb'": EITHER,
    "'🙂'": RIGHT,
}
OWN = {
    "'nobodys:one'": REFUSED,
    "'math:pi'": REFUSED,
    "'math:nothing'": REFUSED,
    "':'": REFUSED,
    "'math:'": REFUSED,
    "':pi'": REFUSED,
    "'a:b:c'": REFUSED,
    "'..:x'": REFUSED,
    "'.a:x'": REFUSED,
}
OWN |= {
    "own('x = 1')": REFUSED,
    "own('raise SystemExit(0)')": REFUSED,
    "own('raise SystemExit')": REFUSED,
    "own('exit()')": REFUSED,
    "own('import sys; sys.exit(3)')": REFUSED,
    "own('x =')": REFUSED,
}
OWN |= {
    "own('1/0')": REFUSED,
    "own('x = __import__(\"gradflow\").Wiring')": REFUSED,
    "own('raise Exception(\"a\\\\nb\\\\nc\\\\nd\")')": REFUSED,
    "own('\\0')": REFUSED,
}
OWN |= {
    "own('raise ValueError(\"a\" * 10000)')": REFUSED,
    "own('x = None')": REFUSED,
    "own('import gradflow as gf; x = gf.Wiring(\"x\", norm_in=3)')": REFUSED,
}
OWN |= {
    "own('import gradflow as gf; x = gf.Wiring(\"mine\")')": RIGHT,
    "own('import gradflow as gf; x = gf.Wiring(\"my/own\")')": RIGHT,
    "own('import gradflow as gf; x = gf.Wiring(\"50%_#\")')": RIGHT,
}
WIRINGS = several(
    {**names("pre", "post"), **OWN},
    "['pre', 'pre']",
    "['pre', 'pots']",
    "['pre', '']",
    "['pre,post']",
    right=("['pre', 'post']",),
    either=("[]",),
)
MODELS = {
    "wirings": WIRINGS,
    "depth": whole("1", "2"),
    "width": whole("8", bad=("'7'", "'3'")),
    "heads": whole("2", "1", bad=("'3'", "'16'")),
    "context": whole("8", bad=("'1'", "'600'")),
    "batch": whole("2"),
    "init": names("fan_in", "bert", "xiong"),
    "precision": names("bfloat16", "float32")
    | dict.fromkeys(("'float64'", "'bf16'", "'fp32'", "'float16'", "'32'"), REFUSED),
    "text": TEXTS,
}
UPDATES = {
    "optimizer": names("adam", "sgd", "lion", "rmsprop", "adamw"),
    "lr": real("1e-3", "0.1", bad=("0", "-1", "-1e-3", "-0"), maybe=("1e-300", "1e300")),
    "warmup": whole("0", "1", "5", least=0, large=EITHER),
    "schedule": names("constant", "cosine", "linear", "inverse_sqrt"),
    "clip": real("1", "0.5", bad=("0", "-1"), maybe=("1e-300",)),
    "clip-parameter": real("1", bad=("0", "-1")),
    "dropout": real("0", "0.5", bad=("1", "-0.1", "2", "1.0")),
    "momentum": dict.fromkeys((*NOT_REAL, "'0.9'", "'2'"), REFUSED),  # of sgd, and the default is adam
    "b1": real("0.5", bad=("1", "2", "-0.1")),
    "b2": real("0.5", bad=("1", "2", "-1")),
    "eps": real("1e-6", bad=("-1",), maybe=("0",)),
    "weight-decay": real("0.1", "0", bad=("-1", "-0.1")),
}
EXTENT = {
    "steps": whole("1"),
    "seeds": whole("1", "2"),
    "key": {**dict.fromkeys(NOT_WHOLE, REFUSED), **dict.fromkeys(("'-1'", *LARGE[1:4]), EITHER), "'7'": RIGHT},
    "out": OUT,
}
RUN = {
    **EXTENT,
    "checkpoint-every": whole("1", large=EITHER),
    "resume": {"[]": EITHER, "'yes'": REFUSED, "'1'": REFUSED},
}
RECORDS = several(
    dict.fromkeys(
        (
            *BAD_WORDS,
            "'2'",
            "'-1'",
            "'0.5'",
            "'every'",
            "'every:'",
            "'every:0'",
            "'every:-1'",
            "'every:x'",
            "'evry:2'",
            "'early:2'",
            "'logarithmic'",
            "'logarithmic:0'",
        ),
        REFUSED,
    ),
    "['0', '5']",
    "['early', '0']",
    "['0', 'early']",
    "['every:1', 'every:2']",
    "['0', '']",
    "['²']",
    right=("'0'", "['0', '1']", "'early'", "'every:1'", "'logarithmic:2'"),
    either=("[]", "'１'", "['0', '0']", "'every:99999999999'"),
)
RECORDS |= {"'logarithmic:100000000'": HUGE, "'logarithmic:9999999999999'": HUGE}
READINGS = several(
    names("economy"),
    "['backward', 'lyapunv']",
    "['economy', 'nothing']",
    "['standard', 'standrd']",
    right=("'backward'",),
    either=("[]", "['economy', 'economy']"),
)
INSPECTED = {
    "folder": {
        **dict.fromkeys(
            words(r"""
                'missing' | '' | str(sample()) | '.' | '/' | '/dev/null' | fifo() | loop() | '\udcff' | 'a' * 300
                somebodys()
            """),
            REFUSED,
        ),
        "str(toy())": RIGHT,
    },
    "text": dict.fromkeys((*FILES, "str(sample())"), REFUSED),  # beside tokens
    "tokens": dict.fromkeys(
        (
            *FILES,
            "'math'",
            "str(sample())",
            "str(toy()) + '/config.json'",
            "listed('0 1 x')",
            "listed('0.5 ' * 50)",
            "listed('11 ' * 50)",
            "listed('-1 ' * 50)",
            "listed('99999999999999999999 ' * 50)",
            "listed('0 ' * 5)",
            "listed('NaN ' * 50)",
            "listed('0x1 ' * 50)",
        ),
        REFUSED,
    )
    | {
        "listed('0 1 2 ' * 20)": RIGHT,
        "listed('0, 1, 2, ' * 20)": RIGHT,
        "listed('0\\n1\\n' * 20)": RIGHT,
        "listed('\\ufeff' + '0 1 2 ' * 20)": EITHER,
    },
    "context": whole("5", bad=("'1'", "'7'", "'600'")),
    "batch": whole("2"),
    "readings": several(
        names("backward"), "['backward', 'lyapunv']", "'update'", "'change'", either=("[]", "'partial_jacobian'")
    ),
    "mask": dict.fromkeys((*NOT_WHOLE, "'2'", "'-1'", "'99'"), REFUSED),  # of a model that sees the past alone
    "precision": names("float32") | dict.fromkeys(("'float64'", "'bf16'", "'16'"), REFUSED),
    "tied": {"[]": EITHER, "'yes'": REFUSED},
    "out": OUT,
}
UNKNOWN = words(r"""
    --dpth 1 | --learning-rate 1 | --n-layers 2 | --gpu | --Depth 1 | --depths 1 | ---depth 1 | -d 1 | --device cpu
    --beta 1 | extra | --decay 0.9 | --verbose | --seed 1 | --lr=1e-3=2
""")
COMMANDS: dict[str, tuple[Mapping[str, Pool], float]] = {
    "compare": ({**MODELS, **UPDATES, **RUN}, 3),
    "train": ({**MODELS, **UPDATES, **RUN, "record": RECORDS, "readings": READINGS}, 3),
    "atlas": ({**MODELS, **UPDATES, **EXTENT}, 1.5),
    "inspect": (INSPECTED, 2.5),
}


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
            f"complete('out', 'inspect', str(toy()), '--tokens', listed('0 1 2 ' * 20), '--context', '5', '--batch', '2', encoding='{name}')",
            RIGHT,
        )
        for name in ("utf-8", "cp1252", "ascii", "latin-1")
    ),
    *(
        (f"complete('out', 'train', *toy_words(), encoding='{name}')", RIGHT)
        for name in ("utf-8", "cp1252", "ascii", "utf-16")
    ),
    ("complete('out', 'train', *toy_words(), stub=False)", RIGHT),
    ("complete('out', 'compare', *toy_words())", RIGHT),
    (
        "complete('out', 'train', *toy_words(), '--wirings', 'pre', own('import gradflow as gf; x = gf.Wiring(\"a.b/c 50%\")'), stub=False)",
        RIGHT,
    ),
    ("refusing('train', *toy_words(), '--optimizer', 'rmsprop', '--b1', '0.9')", REFUSED),
    ("refusing('train', *toy_words(), '--optimizer', 'sgd', '--b2', '0.9')", REFUSED),
    ("refusing('train', *toy_words(), '--optimizer', 'lion', '--eps', '1')", REFUSED),
    ("complete('out', 'train', *toy_words(), '--optimizer', 'sgd', '--momentum', '0.5')", RIGHT),
    ("twice('train', *toy_words())", RIGHT),
    ("twice('inspect', str(toy()), '--tokens', listed('0 1 2 ' * 20), '--context', '5', '--batch', '2')", RIGHT),
]


def toy_words() -> list[str]:
    """A tiny run."""
    return [*TOY, str(world.sample())]


def twice(*words: str) -> None:
    """The same command again finds its own folder, and ends with the same numbers."""
    import gradflow as gf

    world.complete("out", *words)
    first = gf.results.load("out/results.nc")
    world.complete("out", *words)
    world.same(first, gf.results.load("out/results.nc"), rtol=0)


def written(name: str, changed: Mapping[str, str], more: str, verdict: str) -> str:
    """The line of code for a command with these options."""
    options = dict(changed)
    if name == "inspect":
        base = {"tokens": "listed('0 1 2 ' * 20)", "context": "'5'", "batch": "'2'", "readings": "'backward'"}
        head = [options.pop("folder", "str(toy())")]
    else:
        shape = {
            "depth": "'1'",
            "width": "'8'",
            "heads": "'2'",
            "context": "'8'",
            "batch": "'2'",
            "steps": "'1'",
            "seeds": "'2'",
        }
        base, head = {**shape, "text": "str(sample())", **({"wirings": "'pre'"} if name == "atlas" else {})}, []
    out = options.pop("out", "'out'")
    parts = [repr(name), *head]
    for option, code in {**base, **options}.items():
        parts += [repr(f"--{option}"), f"*{code}" if code.startswith("[") else code]
    parts += [repr(word) for word in more.split()]
    if verdict == REFUSED or more:
        return f"refusing({', '.join(parts)}, '--out', {out})"
    return f"complete({out}, {', '.join(parts)})"


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
