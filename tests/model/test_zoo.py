"""The zoo: published parameter counts, what its tables say, sizes that scale, and the identities of every block.

Counts are those of the published weights; where there are none, the paper's, to its digits. Nothing is drawn for them.
"""

import dataclasses
import math
from functools import cache

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradflow as gf
from gradflow.instruments.backward import gradients
from gradflow.model.branches.compressed import Compression, Index
from gradflow.model.branches.experts import SoftmaxRouter
from gradflow.model.equation.sublayer import gains_map, linearized, sublayer, terms, walk
from gradflow.model.parameters.depth import ByBlock
from gradflow.model.parameters.names import present
from gradflow.model.zoo import ZOO
from gradflow.model.zoo.decoders import GptOss
from gradflow.model.zoo.deepseek_v4 import DeepSeekV4
from gradflow.model.zoo.t5 import T5S
from gradflow.results.configuration import dumps, loads

WEIGHTS = {
    "deepseek-v3": 671_026_419_200,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-1.1-base": 247_577_856,
    "bert-base": 109_514_298,
    "bert-large": 335_174_458,
    "gpt1": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "mistral-7b": 7_241_732_096,
    "olmo2-7b": 7_298_617_344,
    "qwen3-0.6b": 596_049_920,
    "qwen3-8b": 8_190_735_360,
}
# Without the token table (Gemma Team 2024, table 2; 2024b, table 2).
WITHOUT_TABLE = {
    "gemma-2b": 1_981_884_416,
    "gemma-7b": 7_751_248_896,
    "gemma2-2b": 2_024_517_888,
    "gemma2-9b": 8_324_201_984,
    "gemma2-27b": 26_047_480_320,
}
# Millions without the token table, as printed (Gemma Team 2025, table 1).
MILLIONS = {"gemma3-1b": 698, "gemma3-4b": 3209, "gemma3-12b": 10_759, "gemma3-27b": 25_600}
# Billions, as printed: Brown et al. 2020, table 2.1 (but XL, whose heads don't give its 1.3); Zhang et al. 2022, table 1.
PRINTED = {
    "gpt3-small": (0.125, 3),
    "gpt3-large": (0.760, 3),
    "gpt3-2.7b": (2.7, 1),
    "gpt3-6.7b": (6.7, 1),
    "gpt3-175b": (175, 0),
    "opt-13b": (13, 0),
    "opt-30b": (30, 0),
    "opt-66b": (66, 0),
    "opt-175b": (175, 0),
}
# What has its own tests: two stacks, and experts.
APART = ("transformer-base", "transformer-big", "deepseek-v3", *T5S)
ALIKE = [name for name in ZOO if name not in APART]
FAMILIES = dict.fromkeys(type(ZOO[name]) for name in ALIKE)
SMALLEST = {kind: next(name for name in ALIKE if type(ZOO[name]) is kind) for kind in FAMILIES}
ALIKE = ("llama2-7b", "llama3-8b", "opt-125m", "gemma-2b")  # to a block of another's, but for an activation or a number
BLOCKS = [name for name in SMALLEST.values() if name not in ALIKE]
EVERYWHERE = ("bert-base", "gpt2", "gemma2-2b")  # post-norm, pre-norm, and norms around every branch
rows_of_blocks = [pytest.param(name, marks=() if name in EVERYWHERE else pytest.mark.further) for name in BLOCKS]
over_blocks = pytest.mark.parametrize("name", rows_of_blocks)
over_families = pytest.mark.parametrize("name", SMALLEST.values())


def size(name: str) -> tuple[int, int]:
    """Number of parameters, and of those in the token table."""
    params = jax.eval_shape(ZOO[name].model().init, jax.random.key(0))
    count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    return count(params), count(params["embedding"]["token"])


@pytest.mark.parametrize(("name", "count"), WEIGHTS.items(), ids=list(WEIGHTS))
def test_an_architecture_has_as_many_parameters_as_its_published_weights(name, count):
    assert size(name)[0] == count


@pytest.mark.parametrize(("name", "count"), WITHOUT_TABLE.items(), ids=list(WITHOUT_TABLE))
def test_a_gemma_has_as_many_parameters_beside_its_table_as_published(name, count):
    total, table = size(name)
    assert total - table == count


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items(), ids=list(MILLIONS))
def test_a_gemma_3_has_as_many_parameters_beside_its_table_as_printed(name, millions):
    total, table = size(name)
    assert round((total - table) / 1e6) == millions


def test_the_largest_llama_of_the_first_has_an_eps_of_its_own():
    assert {name: ZOO[name].eps for name in ("llama-7b", "llama-13b", "llama-33b", "llama-65b")} == {
        "llama-7b": 1e-6,
        "llama-13b": 1e-6,
        "llama-33b": 1e-6,
        "llama-65b": 1e-5,
    }


@pytest.mark.parametrize(("name", "printed"), PRINTED.items(), ids=list(PRINTED))
def test_an_architecture_has_the_parameters_that_its_paper_prints(name, printed):
    billions, digits = printed
    assert round(size(name)[0] / 1e9, digits) == billions


def test_the_original_is_within_three_percent_of_its_papers_counts():
    """65 and 213 million (Vaswani et al. 2017, table 3), for a vocabulary of about 37,000 and unspecified biases."""
    sizes = [size(name)[0] for name in ("transformer-base", "transformer-big")]
    assert sizes == [63_045_632, 214_171_648]
    np.testing.assert_allclose(sizes, [65e6, 213e6], rtol=0.031)


def test_37_of_the_671_billion_parameters_of_deepseek_v3_are_active():
    params = jax.eval_shape(ZOO["deepseek-v3"].model().init, jax.random.key(0))
    count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    routed = count(params["stack"][1]["experts"]["branch"]["routed"])
    without_table = count(params) - routed * (1 - 8 / 256) - count(params["embedding"])
    assert round(without_table / 1e9) == 37


def test_gpt_oss_has_the_parameters_that_its_card_prints():
    """116.83 and 20.91 billion (OpenAI 2025, gpt-oss model card, table 1)."""
    large = GptOss(depth=36, width=2880, heads=64, kv_heads=8, head=64, hidden=2880)
    small = dataclasses.replace(large, depth=24, router=SoftmaxRouter(32, 4))
    count = lambda own: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(own.model().shapes))
    assert [round(count(own) / 1e9, 2) for own in (large, small)] == [116.83, 20.91]


def test_deepseek_v4_has_a_segment_for_each_run_of_blocks_that_are_alike_and_scales_its_ranks():
    near, far = (None, Compression(128)), Compression(4, 2, Index(2, 64, 8))
    own = DeepSeekV4(depth=6, width=4096, heads=64, hidden=2048, compressions=(*near, far, far))
    assert [segment.repeats for segment in own.model().stack.segments] == [1, 1, 2, 1, 1]
    small = own.scaled(depth=2, width=512)
    assert (small.heads, small.query_rank, small.group_rank, small.hidden) == (8, 128, 128, 256)
    assert small.model().depth == 2
    assert loads(dumps(small)) == small
    assert own.row()["attention"] == (
        "64 heads, one key for all heads, causal mask, window 128, entries of 4 tokens, sinks, rotary, QK-norm"
    )


def test_deepseek_scales_its_ranks_and_keeps_its_experts():
    small = ZOO["deepseek-v3"].scaled(depth=5, width=448)
    assert (small.heads, small.head, small.query_rank, small.key_value_rank, small.expert_hidden) == (
        8,
        128,
        96,
        32,
        128,
    )
    assert [(s.block[1].kind, s.repeats) for s in small.model().stack.segments] == [("mlp", 3), ("experts", 2)]
    assert [(s.block[1].kind, s.repeats) for s in small.scaled(depth=2).model().stack.segments] == [
        ("mlp", 1),
        ("experts", 1),
    ]
    assert [s.block[1].kind for s in small.scaled(depth=1).model().stack.segments] == ["experts"]
    assert loads(dumps(small)) == small
    assert small.row()["activation"] == "gated silu, 8 of 256 experts and 1 shared, 3 blocks dense"


def test_the_table_names_every_architecture_its_placement_and_its_source():
    table = gf.architectures()
    assert list(table.index) == list(ZOO)
    assert set(table["placement"]) == {"post", "pre", "res_post", "sandwich"}
    placements = {name: table.loc[name, "placement"] for name in ("bert-base", "gpt1", "gpt2", "opt-350m", "olmo2-7b")}
    assert list(placements.values()) == ["post", "post", "pre", "post", "res_post"]
    assert table.loc["gemma2-2b", "attention"].endswith("rotary, scores capped at 50")
    assert table.loc["olmo2-7b", "attention"] == "32 heads, causal mask, rotary, QK-norm of all heads"
    assert table.loc["mistral-7b", "attention"] == "32 heads, 8 keys, causal mask, window 4096, rotary"
    assert table["source"].str.len().min() > 10
    with pytest.raises(ValueError, match=r"no architecture 'gpt-2': did you mean 'gpt2'"):
        gf.architecture("gpt-2")


@over_families
def test_an_architecture_and_its_model_are_values_that_files_can_hold(name):
    own = ZOO[name]
    assert loads(dumps(own)) == own
    assert loads(dumps(own.model())) == own.model()
    assert hash(own) == hash(dataclasses.replace(own))


@pytest.mark.parametrize("name", ALIKE)
def test_a_scaled_architecture_keeps_heads_and_ratios(name):
    own = ZOO[name]
    small = own.scaled(depth=3, width=2 * own.width // own.heads if own.head is None else own.width // 2)
    assert (small.depth, small.vocabulary, small.context) == (3, own.vocabulary, own.context)
    assert small.ratio == pytest.approx(own.ratio, rel=0.01)
    assert small.heads == (2 if own.head is None else own.heads // 2)
    assert small.attention().size(small.width) == own.attention().size(own.width)
    queries = lambda a: a.heads // (a.kv_heads or a.heads)
    assert queries(small) == min(queries(own), small.heads)
    assert own.scaled() == own


@pytest.mark.parametrize("name", ["gpt2", "llama3-8b", "gemma2-2b", "gpt3-13b", "opt-350m"])
def test_any_width_gives_whole_numbers(name):
    for width in range(1, 400, 7):
        small = ZOO[name].scaled(width=width)
        assert (small.width, small.heads >= 1, small.hidden >= 1) == (width, True, True)
        assert small.heads % (small.kv_heads or small.heads) == 0
        assert small.attention().matrix_shapes(width) if name != "llama3-8b" or width % 2 == 0 else True


@pytest.mark.parametrize(("name", "rms"), [("llama2-7b", 1.0), ("qwen3-0.6b", 0.25), ("gemma2-2b", 1.0)])
def test_a_tied_table_starts_so_small_that_logits_have_a_mean_square_of_one(name, rms):
    """Gemma multiplies its rows by √d on their way into the stream."""
    model = gf.architecture(name).scaled(depth=1, width=16, vocabulary=256).model()
    params = model.init(0)
    bottom = model.enter(params, jnp.arange(256))
    assert float(jnp.sqrt(jnp.mean(bottom**2))) == pytest.approx(rms, rel=0.05)
    stream = jax.random.normal(jax.random.key(1), (256, 16))
    assert float(jnp.mean(model.logits(params, stream) ** 2)) == pytest.approx(1.0, rel=0.2)


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="width is 0: at least 1 is needed"):
        gf.architecture("gpt2").scaled(width=0)


# ---- what holds for every block -----------------------------------------------------------------------------


def toy(name: str):
    """The architecture at a width of 16, with two narrow heads, four blocks, and the vocabulary of the cases."""
    small = {"heads": 2, "head": 8, "kv_heads": 1 if ZOO[name].kv_heads else None, "width": 16, "hidden": 24}
    if hasattr(ZOO[name], "band"):
        small["band"] = 2
    if getattr(ZOO[name], "features", None):
        small["features"] = 6
    own = dataclasses.replace(ZOO[name], depth=4, vocabulary=cases.VOCABULARY, context=cases.TOKENS, **small)
    return dataclasses.replace(own, window=shortened(own.window)) if getattr(own, "window", None) else own


def shortened(window):
    """The window, of 2 tokens where there is one."""
    if isinstance(window, int):
        return 2
    return dataclasses.replace(window, values=tuple(value and 2 for value in window.values))


@cache
def read(name: str) -> dict:
    """What one backward pass reads, in float64, of the toy."""
    model = toy(name).model()
    params, batch = cases.drawn(model), cases.batch()
    grads, reading = cases.jit(lambda p, b: gradients.backward(model, p, b))(params, batch)
    return {"model": model, "params": params, "batch": batch, "grads": grads, "reading": jax.device_get(reading)}


@over_blocks
def test_the_budget_adds_up_to_the_attenuation(name):
    reading = read(name)["reading"]
    g = reading["stream_gradient"]
    assert len(g) == 9
    assert (g > 0).all()
    ends = reading["budget"][:, :2]
    np.testing.assert_allclose(ends.sum(), np.log(g[0] / g[-1]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ends.sum(1), np.log(g[:-1] / g[1:]), rtol=1e-9, atol=1e-9)


@over_blocks
def test_the_shares_of_a_fork_sum_to_one(name):
    np.testing.assert_allclose(read(name)["reading"]["split"].sum(-1), 1, rtol=1e-12)


@over_blocks
def test_skip_plus_branch_equals_the_jvp(name):
    own = read(name)
    model, params, tokens = own["model"], own["params"], own["batch"]["inputs"][0]
    along = cases.normal(cases.TOKENS, 16)

    def visit(x, parts, _):
        y, maps = linearized(parts, x)
        whole = jax.jvp(lambda x: sublayer(x, **parts), (x,), (along,))[1]
        return y, (sum(terms(maps, gains_map(parts, x), along)), whole)

    pairs = cases.jit(lambda p: walk(model.stack, p["stack"], model.enter(p, tokens), visit)[1])(params)
    assert cases.distance(*pairs) < 1e-12


@over_blocks
def test_every_parameter_of_a_block_has_a_gradient(name):
    """But for the keys' bias, which a softmax does not see, and rows that no token of the batch has."""
    own = read(name)
    norms = own["reading"]["parameter_gradient"]
    there = present(own["model"].stack, own["params"]["stack"])
    assert (np.isnan(norms) == ~there).all()
    assert (norms[there] > 0).all()


def test_a_window_of_one_token_in_every_second_block_leaves_the_others_to_reach_back():
    """The gradient of the last token at the top: alone through windows of 1, of all tokens through a block without."""
    own = dataclasses.replace(toy("mistral-7b"), depth=2)

    def reached(window):
        model = dataclasses.replace(own, window=window).model()
        params, tokens = cases.drawn(model), cases.batch()["inputs"][0]
        last = lambda x: walk(model.stack, params["stack"], x)[0][-1].sum()
        return np.abs(np.asarray(cases.jit(jax.grad(last))(model.enter(params, tokens)))).max(1) > 0

    assert reached(1).tolist() == [False] * 4 + [True]
    assert reached(ByBlock((1, None))).all()
