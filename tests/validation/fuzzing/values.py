"""What arguments of the documented calls may be changed to, and what that should lead to, by their kind."""

from .cases import NOT_NAMES, misspelt, names, of, real, whole, words

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
    ["(0, 1)", "[1]", "gf.record_schedule.early", "gf.record_schedule.every(1)", "None", "(np.int64(0),)"],
    ["1", "range(2)", "np.array([0, 1])", "(0, 0)", "{0, 1}", "iter((0, 1))"],
)
READINGS = of(
    [code for name in ("economy", "standard") for code in misspelt(name)]
    + list(NOT_NAMES)
    + words(r"""
        (3,) | ('economi',) | None | ('standard',) | (gf.record_schedule.At((5,), 'backward'),)
        (gf.record_schedule.At((0.5,), 'backward'),) | (gf.record_schedule.At((0,), 'backwrd'),)
    """),
    ["'economy'", "('economy',)"],
    ["()", "'backward'", "(gf.record_schedule.At((), 'backward'),)", "(gf.record_schedule.At((0,)),)"],
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
