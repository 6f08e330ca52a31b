"""The documented calls that build, measure, predict and train, and what each argument may be changed to."""

from .cases import Call, names, of, real, whole, words
from .values import (
    ARRAYS,
    BATCHES,
    DECAY,
    EPS,
    NOT_DATA,
    NOT_KEYS,
    NOT_LAYERS,
    OPTIMIZER,
    PARAMS,
    PATHS,
    QUANTITIES,
    READINGS,
    RECIPE,
    RECORD,
    SHAPE,
    SHARE,
    SIZES,
)

CALLS = [
    Call(
        "gf.measure(…)",
        {"seeds": whole("1", "2"), "key": NOT_KEYS, "quantities": QUANTITIES, "batches": BATCHES, "data": NOT_DATA},
        {"models": "one()", "data": "text()", "seeds": "1"},
        "measured",
        weight=3,
    ),
    Call(
        "gf.measure(…)",
        {"params": PARAMS, "seeds": whole("1"), "batches": BATCHES, "key": NOT_KEYS},
        {"models": "{'pre': one()}", "data": "text()"},
        "measured",
        weight=3,
    ),
    Call(
        "gf.predict(…)",
        {
            "draws": whole("1"),
            "replicas": whole("2", least_words=("1",)),
            "key": NOT_KEYS,
            "data": NOT_DATA,
            "quantities": QUANTITIES,
            "params": of(["weights()", "{}", "3", "{'pre': weights()}"], ["None"]),
        },
        {"models": "one()", "data": "text()", "draws": "1", "replicas": "2"},
        "measured",
        weight=2,
    ),
    Call(
        "gf.sweep(…)",
        {
            "depth": SIZES,
            "seeds": whole("1"),
            "key": NOT_KEYS,
            "quantities": QUANTITIES,
            "data": NOT_DATA,
            "take": of(["None", "3", "'measure'", "gf", "object()"]),
        },
        {"models": "{'pre': one()}", "data": "text()", "depth": "(1,)", "seeds": "1"},
        "measured",
        weight=2,
    ),
    Call(
        "gf.train(…)",
        {
            "steps": whole("1"),
            "seeds": whole("1"),
            "key": NOT_KEYS,
            "record": RECORD,
            "readings": READINGS,
            "data": NOT_DATA,
            "watch": of(["3", "'print'", "[]", "object()"], ["None", "print"]),
            "optimizer": OPTIMIZER,
            "checkpoints": PATHS,
            "checkpoint_every": whole("1", none="right", large="either"),
            "resume": of(["True", "'yes'", "3"], ["False"], ["None"]),
        },
        {
            "models": "{'pre': one()}",
            "data": "text()",
            "optimizer": "gf.Recipe()",
            "steps": "1",
            "seeds": "1",
            "readings": "'economy'",
        },
        "trained",
        weight=4,
    ),
    Call(
        "gf.atlas(…)",
        {
            "steps": whole(),
            "seeds": whole(),
            "scatter": whole("2", least_words=("1",)),
            "data": NOT_DATA,
            "folder": of(["3", "1.5", "[]", "object()", "sample()"]),
            "predict": of(["3", "'predict'", "object()"]),
            "key": NOT_KEYS,
            "optimizer": OPTIMIZER,
        },
        {"models": "{'pre': one()}", "data": "text()", "steps": "1", "seeds": "1", "scatter": "2"},
        "passed",
        weight=1,
    ),
    Call("gf.transformers('pre', …)", SHAPE, {"width": "8", "heads": "2", "depth": "1", "context": "8"}, weight=3),
    Call(
        "gf.transformer(…)",
        {
            "placement": names("pre", "post", "deepnorm", also=("gf.Wiring('own')",))
            | of(["gf.Wiring", "gf.norms.LayerNorm()"]),
            **SHAPE,
        },
        {"placement": "'pre'", "width": "8", "heads": "2", "depth": "1", "context": "8"},
        weight=2,
    ),
    Call("gf.Recipe(…)", RECIPE, {}, weight=3),
    Call(
        "gf.Recipe.original(…)",
        {"width": whole("8"), "warmup": whole("10"), "dropout": RECIPE["dropout"]},
        {},
        weight=0.5,
    ),
    Call(
        "gf.Recipe(gf.optimizers.Adam(…))", {"b1": SHARE, "b2": SHARE, "eps": EPS, "weight_decay": DECAY}, {}, weight=2
    ),
    Call(
        "gf.Recipe(gf.optimizers.SGD(…))",
        {"momentum": SHARE, "nesterov": of(["3", "'yes'", "None"], ["True", "False"])},
        {"momentum": "0.5"},
        weight=0.6,
    ),
    Call("gf.Recipe(gf.optimizers.Lion(…))", {"b1": SHARE, "b2": SHARE, "weight_decay": DECAY}, {}, weight=0.6),
    Call("gf.Recipe(gf.optimizers.RMSProp(…))", {"decay": SHARE, "eps": EPS}, {}, weight=0.6),
    Call("gf.Recipe(gf.optimizers.Muon(…))", {"beta": SHARE, "b1": SHARE, "b2": SHARE, "eps": EPS}, {}, weight=0.6),
    Call("gf.optimizers.named(…)", {"name": OPTIMIZER, "b1": SHARE, "b2": SHARE}, {"name": "'adam'"}, weight=0.5),
    Call(
        "gf.data.text(…)",
        {
            "path": of(
                words(r"""
                    3 | 1.5 | [] | {} | object() | True | '' | 'missing.txt' | b'x' | 'a\0b' | 'x' * 5000 | '.'
                """),
                ["str(sample())", "None"],
            ),
            "context": whole("8", least_words=("1", "1000")),
            "batch": whole("2"),
        },
        {"path": "sample()", "context": "8"},
        weight=2,
    ),
    Call(
        "gf.data.tokens(…)",
        {
            "array": ARRAYS,
            "name": of([], ["'a'", "'é'"], ["''", "None", "3"]),
            "context": whole("8", least_words=("1", "30")),
            "batch": whole("2"),
            "ahead": of(["-1", "2", "1.5", "None", "'1'", "10**9"], ["0", "1"], ["True"]),
            "mask": of(["3", "-1", "'[MASK]'", "1.5"], ["None"]),
        },
        {"array": "np.arange(40)", "name": "'a'", "sha256": "'0'", "context": "8"},
        weight=2,
    ),
    Call(
        "gf.Placement(…)",
        {
            "name": of(["None", "3", "[]"], ["'a'"], ["''", "'x/y'"]),
            "stages": of(
                words(r"""
                    () | None | 3 | (gf.Wiring('a'),) | (gf.Stage((gf.Wiring('a'),), 0.5),) | 'pre' | (None,)
                    (gf.Stage((gf.Wiring('a'),), -1.0), gf.Stage((gf.Wiring('a'),), 2.0))
                    (gf.Stage((gf.Wiring('a'),), float('nan')),) | (gf.Stage((gf.Wiring('a'),), blocks=0),)
                    (gf.Stage((gf.Wiring('a'),), blocks=1.5),) | (gf.Stage((), 1.0),) | (gf.Stage(gf.Wiring('a')),)
                    (gf.Stage((gf.Wiring('a'),), '1'),) | (gf.Stage(('pre',)),)
                    (gf.Stage((gf.Wiring('a'),), blocks=3),)
                """),
                ["(gf.Stage((gf.Wiring('a'),)),)"],
                ["[gf.Stage((gf.Wiring('a'),))]"],
            ),
        },
        {"name": "'own'", "stages": "(gf.Stage((gf.Wiring('a'),)),)"},
        weight=1,
    ),
    Call(
        "gf.transformers(gf.Wiring('own', …), depth=1, width=8, heads=2)",
        {
            **dict.fromkeys(
                ("skip", "read", "norm_in", "norm_branch", "write", "norm_out", "enter", "leave"), NOT_LAYERS
            ),
            "scales": of(
                words(r"""
                    (('qery', 0.5),) | 3 | 'value' | (('value', 'a'),) | (('value', float('nan')),) | (('value',),)
                    ('value', 0.5) | (('value', None),) | ((3, 0.5),)
                """),
                ["(('value', 0.5),)", "()"],
                ["[('value', 0.5)]"],
            ),
            "within": of(
                words(r"""
                    (('iner', gf.norms.RMSNorm()),) | 3 | 'inner' | (('inner', 3),) | (('inner', 'norm'),)
                    (('heads', gf.norms.RMSNorm()),) | (('inner',),) | (('weights', gf.norms.RMSNorm()),)
                    (('causal', gf.norms.RMSNorm()),)
                """),
                ["(('inner', gf.norms.RMSNorm()),)", "()"],
            ),
        },
        {},
        weight=2,
    ),
    Call(
        "gf.transformer('pre', depth=1, width=8, attention=gf.branches.Attention(…))",
        {
            "heads": whole("2"),
            "kv_heads": whole("1", none="right", least_words=("3",)),
            "head": whole("4", none="right"),
            "window": whole("3", none="right", large="either"),
            "scale": real("0.5", none="right", maybe=("0", "-1")),
            "softcap": real("5", none="right", bad=("0", "-1")),
            "causal": of(["'yes'", "3", "None"], ["True", "False"]),
        },
        {"heads": "2"},
        weight=1,
    ),
    Call(
        "gf.transformer('pre', depth=1, width=8, heads=2, mlp=gf.branches.FeedForward(…))",
        {"ratio": real("2", "0.5", bad=("0", "-1")), "activation": names("gelu", "relu")},
        {},
        weight=1,
    ),
    Call(
        "gf.transformer('pre', depth=1, width=8, heads=2, norm=gf.norms.LayerNorm(…))",
        {"eps": real("1e-5", bad=("-1",), maybe=("0", "1e30"))},
        {},
        weight=0.3,
    ),
    Call("gf.record_schedule.every(…)", {"n": whole("3", large="either")}, {"n": "2"}, weight=0.4),
    Call(
        "gf.record_schedule.logarithmic(…)", {"per_decade": whole("3", large="huge")}, {"per_decade": "2"}, weight=0.4
    ),
    Call(
        "gf.architecture(…)", {"name": names("gpt2", "llama3-8b", "transformer-base")}, {"name": "'gpt2'"}, weight=0.7
    ),
    Call(
        "gf.architecture('gpt2').scaled(…).model()",
        {"depth": whole("1", "2"), "width": whole("8"), "heads": whole("2")},
        {"width": "8", "depth": "1"},
        weight=0.7,
    ),
    Call(
        "gf.record(…)",
        {
            "name": of(["''", "'a b'", "3", "None", "'1a'", "[]", "'a.b'", "b'a'"], ["'gradient'", "'é'"], ["'class'"]),
            "stacked": of(["3", "object()", "True", "[3]"], ["'layers'", "None", "('a', 'b')"], ["''", "[]"]),
        },
        {},
        weight=0.6,
    ),
    Call(
        "gf.recorded(…)",
        {"state": of(["None", "3", "{}", "[]", "optax.adam(1e-3).init({'a': jnp.ones(3)})"])},
        {"state": "gf.record(stacked=None).init({'a': jnp.ones(3)})"},
        weight=0.3,
    ),
    Call(
        "gf.meter(…)",
        {
            "dial": of(
                ["None", "'0'", "jnp.zeros(3)", "jnp.zeros((1, 2, 3))", "[]", "object()"],
                ["0.0", "jnp.zeros(2)"],
                ["0", "True"],
            ),
            "x": of(["None", "'x'", "object()", "{}"], ["jnp.ones((2, 3))"], ["np.ones((2, 3))", "3.0"]),
        },
        {"x": "jnp.ones((2, 3))", "dial": "0.0"},
        weight=0.4,
    ),
]
