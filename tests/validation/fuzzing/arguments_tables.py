"""The documented calls of the library, an entry each: what an argument may be changed to, and what that should lead to."""

from .cases import NOT_NAMES, NOT_WHOLE, Call, misspelt, names, of, real, whole, words

NOT_KEYS = of(
    words(r"""
        None | '0' | 1.5 | [] | {} | object() | float('nan') | b'0' | True | jnp.asarray(1.5) | np.ones(3)
    """),
    ["0", "7", "np.int64(3)", "jax.random.key(3)"],
    words(r"""
        -1 | 2**31 | 2**63 | 2**64 | -(2**63) | 10**400 | jax.random.PRNGKey(3) | jnp.asarray(3)
        jax.random.split(jax.random.key(0))
    """),
)
NOT_DATA = of(
    words(r"""
        None | 'text' | b'bytes' | 3 | [] | object() | sample() | str(sample()) | np.ones(3) | {} | gf.data
        {'inputs': 1} | two()
    """),
    ["text()"],
)
READ = ("backward", "economy", "partial_jacobian", "stream_gradient")
QUANTITIES = of(
    words(r"""
        'spectrum' | 'backward' | None | 3 | [3] | [None] | 'partial_jacobian' | b'backward' | [b'backward']
        [['backward']]
    """)
    + [f"({code},)" for name in READ for code in misspelt(name)]
    + [f"[{code}]" for code in NOT_NAMES],
    ["('backward',)", "['backward']", "('stream_gradient',)", "('backward', 'backward')"],
    ["()", "[]", "{'backward': 1}", "{'backward'}", "iter(['backward'])", "(object,)"],
)
SIZES = of(
    words(r"""
        None and 1 | (0,) | (-1,) | (1.5,) | ('1',) | (None,) | (1, 0) | 1.5 | '12' | [True] | ((1,),)
        (float('nan'),) | object()
    """),
    ["(1,)", "[1, 2]"],
    ["1", "(1, 1)", "np.array([1, 2])", "range(1, 3)", "(np.int64(1),)", "{1: 2}", "()"],
)
PARAMS = of(
    words(r"""
        {'pree': weights()} | {'pre': None} | {'pre': 3} | weights() | {'pre': {}} | {'pre': {'stack': ()}} | 3
        [weights()] | {'pre': jax.tree.map(lambda a: a[0], weights())}
        {'pre': jax.tree.map(lambda a: a[..., :-1], weights())} | {'pre': jax.tree.map(lambda a: a[:0], weights())}
        {'pre': weights(), 'b': weights()} | 'pre' | {'pre': {**weights(), 'more': jnp.ones(1)}}
        {'pre': {k: v for k, v in weights().items() if k != 'readout'}}
        {'pre': jax.tree.map(lambda a: jnp.concatenate([a, a], -1), weights())}
        {'pre': jax.tree.map(str, weights())}
    """),
    ["{'pre': weights()}", "{}"],
    words(r"""
        {'pre': jax.tree.map(np.asarray, weights())}
        {'pre': jax.tree.map(lambda a: a.astype(jnp.bfloat16), weights())}
        {'pre': jax.tree.map(lambda a: a * jnp.nan, weights())}
        {'pre': jax.tree.map(lambda a: a.astype(int), weights())}
    """),
)
BATCHES = names("shared by seeds", "one a seed")
OPTIMIZERS = ("adam", "adamw", "lion", "rmsprop", "sgd")
OPTIMIZER = of(
    words(r"""
        None | 3 | gf.optimizers.Adam | object() | [] | {} | True | optax | optax.adam | 1e-3 | gf.Recipe
        lambda: 1
    """)
    + [code for name in OPTIMIZERS for code in misspelt(name)]
    + list(NOT_NAMES),
    ["'adam'", "gf.optimizers.Adam()"],
)
RECIPE = {
    "optimizer": OPTIMIZER,
    "lr": real(
        "1e-3",
        "1",
        bad=("0", "-1", "0.0", "-1e-3"),
        maybe=("1e-300", "1e300", "jnp.asarray(0.5)", "Fraction(1, 2)", "10**30"),
    ),
    "warmup": whole("0", "3", "np.int64(2)", least=0, large="either"),
    "schedule": names("constant", "linear", "cosine", "inverse_sqrt"),
    "clip": real("1", "0.5", bad=("0", "-1"), none="right", maybe=("1e-300", "jnp.asarray(0.5)")),
    "clip_parameter": real("1", "0.5", bad=("0", "-1"), none="right"),
    "dropout": real("0", "0.5", "0.999", bad=("1", "1.0", "-0.1", "2", "-1e-9"), maybe=("1e-300",)),
}
SHARE = real("0", "0.5", "0.9", bad=("1", "2", "-0.1", "1.5"), maybe=("1e-300", "0.9999999"))
EPS = real("1e-8", "1e-3", bad=("-1", "-1e-8"), maybe=("0", "1e300"))
DECAY = real("0", "0.1", bad=("-1", "-0.1"), maybe=("1e300",))
SHAPE = {
    "depth": whole("1", "np.int64(2)"),
    "width": whole("8", "np.int32(4)", least_words=("7", "3", "9")),
    "heads": whole("1", "2", least_words=("3", "16")),
    "context": whole("8", "4", none="right"),
    "vocabulary": whole("256", "11", large="huge"),
    "init": names(
        "fan_in", "xavier", "xiong", "bert", "bert_literal", "gpt2", none="right", also=("gf.transformer and None",)
    ),
    "precision": names("bfloat16", "float32", none="right")
    | of(["'float64'", "'float16'", "'fp32'", "jnp.float32", "np.float32"]),
    "embedding_rms": real("1", "0.5", bad=("-1",), maybe=("0", "1e-30", "1e30")),
    "norm": of(
        ["'layernorm'", "3", "gf.norms.LayerNorm", "object()", "[]", "'LayerNorm'", "True"],
        ["None", "gf.norms.RMSNorm()"],
    ),
    "attention": of(
        ["'causal'", "3", "gf.branches.Attention", "object()", "[2]", "True"], ["None", "gf.branches.Attention(2)"]
    ),
    "mlp": of(
        ["'gelu'", "3", "gf.branches.FeedForward", "object()", "[2]", "True"], ["None", "gf.branches.FeedForward()"]
    ),
}
RECORD = of(
    words(r"""
        (0.7,) | (2,) | (-1,) | ('early',) | 'early' | (None,) | (float('nan'),) | () | [] | 0.5 | (1.5,)
        'every:2' | (0, 5) | object() | lambda n: 3 | lambda n: (n + 1,) | lambda n: () | lambda: (0,) | ((0,),)
        (True,) | {} | b'0' | (2**70,)
    """),
    ["(0, 1)", "[1]", "gf.moments.early", "gf.moments.every(1)", "None", "(np.int64(0),)"],
    ["1", "range(2)", "np.array([0, 1])", "(0, 0)", "{0, 1}", "iter((0, 1))"],
)
READINGS = of(
    [code for name in ("economy", "standard") for code in misspelt(name)]
    + list(NOT_NAMES)
    + words(r"""
        (3,) | ('economi',) | None | ('standard',) | (gf.moments.At((5,), 'backward'),)
        (gf.moments.At((0.5,), 'backward'),) | (gf.moments.At((0,), 'backwrd'),)
    """),
    ["'economy'", "('economy',)"],
    ["()", "'backward'", "(gf.moments.At((), 'backward'),)", "(gf.moments.At((0,)),)"],
)
PATHS = of(
    ["3", "1.5", "[]", "{}", "object()", "True", "''", "b'x'"],
    ["'folder'", "Path('folder')"],
    ["'a\\0b'", "'x' * 300", "'a/b/c'"],
)
PLOTTED = of(["None", "3", "'x'", "{}", "[]", "object()", "two()", "xr.DataTree()", "xr.Dataset()", "np.ones(3)"])
AX = of(["3", "'ax'", "object()", "[]", "plt", "plt.figure()"], ["None", "plt.figure().add_subplot()"])
QUANTITY = names("stream_gradient") | of(["None", "3", "'stream'", "'nothing'", "['stream_gradient']"])
REFERENCE = names("readout", "top", none="right")
STEPS = of(
    ["(7,)", "'all'", "(0.5,)", "(-1,)", "(None,)", "object()", "1.5"],
    ["(0,)", "None", "(0, 2)"],
    ["()", "0", "[0]", "range(2)"],
)
WIDTHS = names("icml", "neurips") | of(
    ["0", "-1", "None", "float('nan')", "[]", "float('inf')"], ["3.0"], ["1e-3", "1e6"]
)
NOT_LAYERS = of(
    ["'norm'", "3", "None", "[]", "gf.norms.LayerNorm", "object()", "True", "{}"],
    ["gf.norms.RMSNorm()", "gf.layers.Gain(0.5)"],
)
ARRAYS = of(
    words(r"""
        None | 3 | '0 1 2' | [] | np.ones(40) | np.ones((40, 2), int) | [0.5] * 40 | np.array(['a'] * 40) | object()
        np.arange(5) | {} | np.ones(40, bool) | np.ones(40, complex) | np.full(40, np.nan)
    """),
    ["np.arange(40)", "np.arange(40, dtype=np.uint16)"],
    ["list(range(40))", "range(40)", "jnp.arange(40)", "np.arange(40) - 5", "np.arange(40, dtype=np.uint64) + 2**63"],
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
            "resume": of(["True", "'yes'", "3", "None"], ["False"]),
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
            "scatter": whole(),
            "data": NOT_DATA,
            "folder": of(["3", "1.5", "[]", "object()", "sample()"]),
            "predict": of(["3", "'predict'", "object()"]),
            "key": NOT_KEYS,
            "optimizer": OPTIMIZER,
        },
        {"models": "{'pre': one()}", "data": "text()", "steps": "1", "seeds": "1", "scatter": "1"},
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
    Call("gf.transformer('pre', depth=1, width=8, heads=2, norm=gf.norms.LayerNorm(…))", {"eps": real("1e-5", bad=("-1",), maybe=("0", "1e30"))}, {}, weight=0.3),
    Call("gf.moments.every(…)", {"n": whole("3", large="either")}, {"n": "2"}, weight=0.4),
    Call("gf.moments.logarithmic(…)", {"per_decade": whole("3", large="huge")}, {"per_decade": "2"}, weight=0.4),
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
    Call(
        "gf.results.load(…)",
        {"path": of(["None", "3", "[]", "'missing.nc'", "''", "sample()", "'.'", "object()", "b'x'"])},
        {"path": "kept()"},
        weight=0.5,
    ),
    Call(
        "gf.results.save(…)",
        {
            "path": of(["None", "3", "''", "'.'", "'no/such/place.nc'", "object()", "sample().parent"], ["'a.nc'"]),
            "tree": of(["None", "3", "{}", "'x'", "two()"], ["started()"]),
        },
        {"tree": "started()", "path": "'a.nc'"},
        weight=0.5,
    ),
    Call(
        "gf.results.relative(…)",
        {"name": QUANTITY, "to": REFERENCE},
        {"node": "started()['pre']", "name": "'stream_gradient'"},
        weight=0.7,
    ),
    Call(
        "gf.results.against_theory(…)",
        {"measured": PLOTTED, "predicted": PLOTTED | of(["started()", "swept()"]), "quantity": QUANTITY},
        {"measured": "started()", "predicted": "foretold()"},
        weight=0.7,
    ),
    Call(
        "gf.results.against_total_depth(…)",
        {
            "tree": PLOTTED | of(["started()"]),
            "name": QUANTITY,
            "sublayer": of(["99", "'x'", "None", "1.5"], ["-1", "0"]),
            "parameter": of(["'dwn'", "3", "None"], ["'down'"]),
        },
        {"tree": "swept()", "name": "'parameter_gradient'", "sublayer": "-1", "parameter": "'down'"},
        weight=0.6,
    ),
    Call(
        "gf.report.write(…)",
        {
            "run": PLOTTED | of(["swept()", "foretold()"]),
            "out": of(["None", "3", "''", "sample()", "'a\\0b'", "object()"], ["'out'"]),
            "sweep": of(["3", "'x'", "started()", "object()"], ["None"]),
            "theory": of(["3", "'x'", "swept()", "object()"], ["None"]),
            "configuration": of(["3", "'x'", "[]", "object()"], ["None", "{'a': 1}"]),
        },
        {"run": "started()", "out": "'out'"},
        weight=1,
    ),
    Call(
        "gf.plot.profile(…)",
        {
            "tree": PLOTTED,
            "quantity": QUANTITY,
            "relative_to": REFERENCE,
            "steps": STEPS,
            "ax": AX,
            "theory": of(["3", "'x'", "swept()"], ["None"]),
            "parameter": of(["'down'", "3"]),
        },
        {"tree": "ran()"},
        "drawn",
        weight=1.5,
    ),
    Call(
        "gf.plot.budget(…)",
        {"node": PLOTTED | of(["foretold()"]), "steps": STEPS, "ax": AX},
        {"node": "ran()['pre']"},
        "drawn",
        weight=0.7,
    ),
    Call(
        "gf.plot.budget_totals(…)", {"tree": PLOTTED, "steps": STEPS, "ax": AX}, {"tree": "ran()"}, "drawn", weight=0.7
    ),
    Call(
        "gf.plot.heatmap(…)",
        {"node": PLOTTED | of(["started()['pre']"]), "quantity": QUANTITY, "relative_to": REFERENCE, "ax": AX},
        {"node": "ran()['pre']"},
        "drawn",
        weight=0.7,
    ),
    Call(
        "gf.plot.total_depth(…)",
        {
            "sweep": PLOTTED | of(["started()"]),
            "quantity": names("parameter_gradient"),
            "sublayer": of(["99", "'x'", "None", "1.5"], ["-1"]),
            "ax": AX,
            "parameter": of(["'dwn'", "3"], ["'down'"]),
        },
        {"sweep": "swept()"},
        "drawn",
        weight=0.7,
    ),
    Call(
        "gf.plot.training(…)",
        {"run": PLOTTED | of(["started()"]), "quantity": names("loss", "token_cosine"), "ax": AX},
        {"run": "ran()", "quantity": "'loss'"},
        "drawn",
        weight=0.6,
    ),
    Call(
        "gf.plot.comparison(…)",
        {"run": PLOTTED | of(["started()"]), "sweep": PLOTTED | of(["started()"]), "width": WIDTHS},
        {"run": "ran()", "sweep": "swept()"},
        "drawn",
        weight=0.5,
    ),
    Call("gf.plot.through(…)", {"run": PLOTTED | of(["started()"]), "ax": AX}, {"run": "ran()"}, "drawn", weight=0.4),
    Call("gf.plot.through(ran(), …)", {"ax": AX}, {}, "drawn", weight=0.2),
    Call(
        "gf.plot.collapse(…)",
        {"run": PLOTTED | of(["started()"]), "width": WIDTHS},
        {"run": "ran()"},
        "drawn",
        weight=0.4,
    ),
    Call(
        "gf.plot.outcomes(…)",
        {"tree": PLOTTED | of(["started()"]), "ax": AX},
        {"tree": "tried_out()"},
        "drawn",
        weight=0.4,
    ),
    Call(
        "gf.plot.agreement(…)",
        {"measured": PLOTTED, "predicted": PLOTTED | of(["started()"]), "quantity": QUANTITY, "ax": AX},
        {"measured": "started()", "predicted": "foretold()"},
        "drawn",
        weight=0.5,
    ),
    Call(
        "gf.plot.spectrum(…)",
        {
            "node": PLOTTED | of(["started()['pre']"]),
            "sublayer": of(["0", "99", "-1", "'x'", "None", "1.5", "True"], ["1", "2"]),
            "seed": of(["9", "-1", "'x'", "None", "1.5"], ["0", "1"]),
            "step": of(["0", "'x'", "1.5"], ["None"]),
            "ax": AX,
        },
        {"node": "spectral()['pre']", "sublayer": "1"},
        "drawn",
        weight=0.7,
    ),
    Call(
        "gf.plot.spectrum_bands(…)",
        {
            "node": PLOTTED | of(["started()['pre']"]),
            "jacobian": names("sublayer", "fork"),
            "step": of(["0", "'x'"], ["None"]),
            "ax": AX,
        },
        {"node": "spectral()['pre']"},
        "drawn",
        weight=0.6,
    ),
    Call(
        "gf.plot.spectral_density(…)",
        {
            "node": PLOTTED | of(["started()['pre']"]),
            "jacobian": names("sublayer"),
            "ax": AX,
            "sublayers": of(["(0,)", "(99,)", "'x'", "(1.5,)", "3.5"], ["(1,)", "None"], ["()", "1"]),
        },
        {"node": "spectral()['pre']"},
        "drawn",
        weight=0.6,
    ),
    Call(
        "gf.plot.factors(…)",
        {"node": PLOTTED | of(["started()['pre']"]), "quantity": names("jacobian_gain"), "ax": AX},
        {"node": "spectral()['pre']"},
        "drawn",
        weight=0.5,
    ),
    Call(
        "gf.plot.exponents(…)",
        {"tree": PLOTTED | of(["started()"]), "step": of(["0", "'x'"], ["None"]), "ax": AX},
        {"tree": "spectral()"},
        "drawn",
        weight=0.4,
    ),
    Call(
        "gf.plot.alignment(…)",
        {"tree": PLOTTED | of(["started()"]), "step": of(["0", "'x'"], ["None"]), "ax": AX},
        {"tree": "spectral()"},
        "drawn",
        weight=0.4,
    ),
    Call("gf.plot.figure(…)", {"width": WIDTHS, "height": real("2", bad=("0", "-1"), none="right")}, {}, weight=0.4),
    Call(
        "gf.plot.save(…)",
        {
            "path": of(["None", "3", "object()", "'no/such/place'", "'a\\0b'"], ["'a'", "'lr-0.1'"], ["''", "'.'"]),
            "table": of(["3", "'x'", "object()", "[]"]),
        },
        {"figure": "gf.plot.profile(started())", "path": "'a'", "table": "pd.DataFrame({'a': [1]})"},
        weight=0.4,
    ),
    Call(
        "gf.experiments.warmup(…)",
        {
            "lrs": of(["()", "(0,)", "(-1,)", "'x'", "None", "(float('nan'),)", "(None,)", "1e-3", "('1',)"]),
            "warmups": of(["()", "(-1,)", "(1.5,)", "None", "'x'", "3.5"]),
            "steps": whole(),
            "seeds": whole(),
            "base": of(["None", "3", "'adam'", "optax.sgd(1)"]),
        },
        {"models": "two()", "data": "text()", "lrs": "(1e-3,)", "warmups": "(0, 1)", "steps": "2", "seeds": "2"},
        weight=1,
    ),
    Call(
        "gf.experiments.before_and_after(…)",
        {"recipe": of(["gf.Recipe()", "None", "3", "'adam'"])},
        {"models": "two()", "data": "text()", "recipe": "gf.Recipe(warmup=1)", "seeds": "2"},
        weight=0.2,
    ),
    Call(
        "gf.laws.fit(…)",
        {
            "profile": PLOTTED,
            "law": of(["None", "'power'", "3"], ["gf.laws.power", "gf.laws.constant"]),
            "over": names("depth"),
            "seeds": names("seed"),
        },
        {"profile": "started()['pre']['stream_gradient']", "law": "gf.laws.exponential"},
        weight=0.5,
    ),
    Call(
        "gf.checkpoint(…)",
        {
            "folder": of(["None", "3", "''", "'missing'", "sample()", "'.'", "object()", "b'x'", "'a\\0b'", "[]"]),
            "precision": names("float32", none="right") | of(["'float64'"], either=["'bfloat16'"]),
            "readout": of(["3", "'tied'", "object()", "True"], ["None"]),
        },
        {"folder": "toy()"},
        weight=1,
        needs=("toy",),
    ),
]
assert NOT_WHOLE
