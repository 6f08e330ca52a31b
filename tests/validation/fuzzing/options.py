"""The options of every command: words that are right, and words that must be refused."""

from collections.abc import Mapping, Sequence

from .cases import EITHER, HUGE, REFUSED, RIGHT, Pool, misspelt, words

SIZES = {"depth": "1", "width": "8", "heads": "2", "context": "8", "batch": "2", "steps": "1", "seeds": "2"}
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
    "''": EITHER,  # the folder one stands in, as "." is: fine where it is empty
    "'.'": EITHER,
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
for options, optional in (
    (UPDATES, ("clip", "clip-parameter", "momentum", "b1", "b2", "eps", "weight-decay")),
    (MODELS, ("precision",)),
    (RUN, ("checkpoint-every",)),
    (INSPECTED, ("mask", "precision")),
):
    for option in optional:
        options[option] |= {"'None'": EITHER}  # what may be left away may be said to be
COMMANDS: dict[str, tuple[Mapping[str, Pool], float]] = {
    "compare": ({**MODELS, **UPDATES, **RUN}, 3),
    "train": ({**MODELS, **UPDATES, **RUN, "record": RECORDS, "readings": READINGS}, 3),
    "atlas": ({**MODELS, **UPDATES, **EXTENT}, 1.5),
    "inspect": (INSPECTED, 2.5),
}
