"""Python arguments: what the documented calls take, and what they must refuse; and trees of parameters of every make."""

from collections.abc import Iterator
from random import Random

from . import calls, shown, trees
from .cases import EITHER, REFUSED, RIGHT, Line, changes, mixed

# Lines that are no change of one argument.
WRITTEN: list[tuple[str, str]] = [
    ("gf.measure()", REFUSED),
    ("gf.measure(one())", REFUSED),
    ("gf.measure('pre', text())", REFUSED),
    ("gf.measure(None, text())", REFUSED),
    ("gf.measure([one()], text())", REFUSED),
    ("gf.measure({}, text())", REFUSED),
    ("gf.measure({'a': None}, text())", REFUSED),
    ("gf.measure({'a': 'pre'}, text())", REFUSED),
    ("gf.measure({1: one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'x/y': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'/': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'.': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'..': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'seed': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'a b%#_$\\\\': one()}, text(), seeds=1)", EITHER),
    ("gf.measure({'a': one(), 'a/b': two()['post']}, text(), seeds=1)", EITHER),
    ("gf.measure({'t5': both_sides()}, gf.data.Halves(text(8)), seeds=1)", EITHER),
    ("measured(gf.measure(both_sides(), gf.data.Halves(text(8)), seeds=1))", RIGHT),
    ("gf.measure(both_sides(), text(), seeds=1)", REFUSED),
    ("gf.measure(one(), gf.data.Halves(text(8)), seeds=1)", REFUSED),
    ("gf.measure(one, text())", REFUSED),
    ("gf.measure(gf.Wiring('pre'), text())", REFUSED),
    ("gf.measure(gf.architecture('gpt2'), text())", REFUSED),
    ("gf.measure(torch_module(), text())", REFUSED),
    ("gf.measure(nnx_module(), text())", REFUSED),
    ("gf.measure(equinox_module(), text())", REFUSED),
    ("gf.measure(linen_module(), text())", REFUSED),
    ("gf.measure({'a': nnx_module()}, text())", REFUSED),
    ("gf.measure({'a': torch_module()}, text())", REFUSED),
    ("gf.predict({}, text())", REFUSED),
    ("gf.predict(None, text())", REFUSED),
    ("gf.predict('pre', text())", REFUSED),
    ("gf.predict(torch_module(), text())", REFUSED),
    ("gf.predict(bidirectional(), text(), draws=1, replicas=2)", EITHER),
    ("gf.train({}, text(), gf.Recipe(), steps=1)", REFUSED),
    ("gf.train(None, text(), gf.Recipe(), steps=1)", REFUSED),
    ("gf.train({'a': None}, text(), gf.Recipe(), steps=1)", REFUSED),
    ("gf.train([one()], text(), gf.Recipe(), steps=1)", REFUSED),
    ("gf.train({'a': torch_module()}, text(), gf.Recipe(), steps=1)", REFUSED),
    ("gf.sweep({}, text(), depth=(1,))", REFUSED),
    ("gf.sweep(None, text(), depth=(1,))", REFUSED),
    ("gf.atlas({}, text())", REFUSED),
    ("gf.atlas(None, text())", REFUSED),
    ("gf.atlas('pre', text())", REFUSED),
    ("gf.transformers()", REFUSED),
    ("gf.transformers('pre', 'pre')", REFUSED),
    ("gf.transformers(['pre', 'post'])", REFUSED),
    ("gf.transformers(None)", REFUSED),
    ("gf.nonsense", REFUSED),
    ("gf.Measure", REFUSED),
    ("different_batches(7, 2**32 + 7)", RIGHT),
    ("different_batches(0, 2**32)", RIGHT),
    ("different_batches(1, 2**33 + 1)", RIGHT),
    ("different_batches(5, 6)", RIGHT),
    ("different_weights(7, 2**32 + 7)", RIGHT),
    ("different_weights(3, 2**40 + 3)", RIGHT),
    ("resumed_is_the_same()", RIGHT),
    ("saved_is_the_same()", RIGHT),
    ("names_of_figures('x/y', 'x.y')", RIGHT),
    ("names_of_figures('lr-0.1', 'lr-0.3')", RIGHT),
    ("names_of_figures('Llama-3.2-1B', 'Llama-3.2-3B')", RIGHT),
    ("names_of_figures('a%b', 'a#b', 'a_b', '_a')", RIGHT),
    ("names_of_figures('a\\\\b', 'a$b', 'a{b', 'a~b')", RIGHT),
    ("names_of_figures('é', 'e', 'ë', 'π')", RIGHT),
    ("names_of_figures('e', 'E')", REFUSED),
    ("names_of_figures('a b', 'a-b', 'a  b')", RIGHT),
    ("names_of_figures('con', 'nul.a', '.a', 'a.')", RIGHT),
    ("names_of_figures('n' * 199, 'n' * 200)", RIGHT),
    ("names_of_figures('n' * 201)", REFUSED),
    ("checkpoints_apart('x/y', 'x.y')", RIGHT),
    ("checkpoints_apart('a.b', 'a/b', 'a b')", RIGHT),
    ("checkpoints_apart('X', 'x')", REFUSED),
    ("compared_batches(5)", RIGHT),
    ("compared_batches(1)", RIGHT),
    ("dials_of(3)", RIGHT),
    ("dials_of(2)", REFUSED),
    ("dials_of(1)", REFUSED),
    ("dials_of(4)", REFUSED),
    ("dials_of(0)", REFUSED),
    ("one_seed_has_no_interval()", RIGHT),
    ("not_finite_is_told()", RIGHT),
]
SETTING = (
    "jax_numpy_rank_promotion='raise'",
    "jax_numpy_dtype_promotion='strict'",
    "jax_debug_nans=True",
    "jax_disable_jit=True",
)
UNDER = ("measuring", "predicting", "training", "sweeping", "of_function", "recording")


def settings() -> Iterator[Line]:
    """The same numbers whatever other settings of JAX are."""
    for setting in SETTING:
        for what in UNDER:
            if not (setting.startswith("jax_disable") and what in ("training", "predicting", "sweeping")):
                yield Line(f"unmoved({what}, {setting})", RIGHT)
    for key in range(8):
        for context in (2, 8):
            yield Line(f"same_draws_with_float64({key}, {context})", RIGHT)
    yield Line("same_draws_with_float64(2**32 + 7, 8)", RIGHT)
    yield Line("same_masks_with_float64(3)", RIGHT)
    yield Line("same_masks_with_float64(4)", RIGHT)


def lines(chance: Random) -> Iterator[Line]:
    """Of all of these, those written out first."""
    written = iter([Line(code, expected) for code, expected in WRITTEN])
    functions = iter([Line(code, expected) for code, expected in trees.LINES])
    yield from mixed(chance, written, settings(), functions)
    yield from changes([*calls.CALLS, *shown.CALLS], chance)
