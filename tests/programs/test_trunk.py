"""The trunk of programs as researchers write them: its positions are the lines that a reader marks by hand."""

import jax
import jax.numpy as jnp
import pytest
from programs.models import PROGRAMS, marked_lines

from gradflow.programs.trunk.positions import makers
from gradflow.programs.trunk.search import NoTrunk, trunks
from gradflow.programs.trunk.trunk import Fork, Loop

# Several arrays that are handed on beside one another (test_lanes), or a stream whose positions are above a mixture.
LANES = ("two_streams", "lanes_in_list", "reversible", "remat_two_streams", "scan_two_streams", "momentum")
FRONTIERS = (*LANES, "x0_again")
# Where the shape changes, norm and activation stand on the trunk, since the projection reads them: the position is above.
PROJECTED = ("resnet_stages",)


def found_in(program):
    leaves = len(jax.tree.leaves(program.params))
    return trunks(jax.make_jaxpr(program.loss)(program.params, program.batch), leaves)


def lines_around(operation) -> set[tuple[str, int]]:
    """All lines that an operation was traced from, those of the calls that it stands in too."""
    equations = (operation.equation, *operation.around)
    return {(frame.file_name, frame.line_num) for one in equations for frame in one.source_info.traceback.frames}


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {*FRONTIERS, *PROJECTED}))
def test_positions_are_the_marked_lines_once_a_layer(name):
    program = PROGRAMS[name]()
    if program.layers == 0:
        with pytest.raises(NoTrunk):
            found_in(program)
        return
    found = found_in(program)
    assert sum(trunk.sublayers for trunk in found) == program.layers
    marked = set(map(tuple, marked_lines(*program.source)))
    hit = [lines_around(operation) & marked for trunk in found for operation, _ in makers(trunk)]
    assert all(hit)
    assert set().union(*hit) == marked


def test_where_there_is_no_trunk_the_line_says_why():
    with pytest.raises(NoTrunk, match="no residual sublayer: no value .* is added to what a branch makes of it"):
        found_in(PROGRAMS["densenet"]())


def test_a_stream_through_a_loop_without_a_gradient_is_told_the_remedy():
    def loss(w, x):
        turns = jnp.int32(3)  # not known to the loop

        def layer(state):
            turn, x = state
            return turn + 1, x + jnp.tanh(x @ w)

        return jnp.sum(jax.lax.while_loop(lambda state: state[0] < turns, layer, (0, x))[1])

    with pytest.raises(NoTrunk, match=r"a loop whose number of turns .* test_trunk.py:\d+, .* write it as `lax.scan`"):
        trunks(jax.make_jaxpr(loss)(jnp.eye(4), jnp.ones((2, 4))), 1)


def test_a_loss_without_the_batch_has_no_path():
    program = jax.make_jaxpr(lambda w, x: jnp.sum(w**2))(jnp.ones(3), jnp.arange(3))
    with pytest.raises(NoTrunk, match="no path goes from the batch to the loss"):
        trunks(program, 1)


def test_finding_48_unrolled_blocks_takes_a_few_sweeps_over_the_program():
    """Not a time: every sweep goes over the operations once, so twice the blocks are twice the operations."""

    def loss(params, x):
        for w in params:
            x = x + jnp.tanh(x @ w)
        return jnp.sum(x)

    counts = []
    for blocks in (24, 48):
        (found,) = trunks(jax.make_jaxpr(loss)([jnp.eye(4)] * blocks, jnp.ones((2, 4))), blocks)
        assert found.sublayers == blocks
        counts.append(len(found.graph.operations))
    assert counts[1] < 2.1 * counts[0]


def residual(x, w):
    return x + jnp.tanh(x @ w)


def mixed(x, x0, w):
    return residual(0.9 * x + w[0, 0] * x0, w)


def scanned_mixed(w, x0):
    return jax.lax.scan(lambda x, w: (mixed(x, x0, w), None), x0, w)[0]


def test_x0_that_every_layer_reads_again_is_held():
    """The stream is beside it, one array; every position is above the mixture, which is what the sublayer reads."""
    program = PROGRAMS["x0_again"]()
    (found,) = found_in(program)
    assert found.sublayers == program.layers
    marked = set(map(tuple, marked_lines(*program.source)))
    assert {(fork.line.file, fork.line.number) for fork, _, _ in found.places} < marked
    assert {fork.line.text.split("#")[0].strip() for fork, _, _ in found.places} == {
        'x = x + branch(norm(x, p["norm_scale"]), p)'
    }


@pytest.mark.parametrize(
    ("loss", "sublayers"),
    [
        (lambda w, x: jnp.sum(residual(residual(x, w[0]), w[1])), 2),
        (lambda w, x: jnp.sum(jax.lax.scan(lambda x, w: (residual(x, w), None), x, w)[0]), 2),
        (lambda w, x: jnp.sum(jax.lax.scan(lambda x, w: (residual(x, w), x), x, w)[0]), 2),
        (lambda w, x: jnp.sum(jax.lax.fori_loop(0, 2, lambda i, x: residual(x, w[i]), x)), 2),
        (lambda w, x: jnp.sum(jax.lax.scan(jax.checkpoint(lambda x, w: (residual(x, w), None)), x, w)[0]), 2),
        (lambda w, x: jnp.sum(jax.jit(residual)(jax.jit(residual)(x, w[0]), w[1])), 2),
        (lambda w, x: jnp.sum(jax.vmap(lambda x: residual(residual(x, w[0]), w[1]))(x)), 2),
        (lambda w, x: jnp.sum((residual(residual(x, w[0]), w[1]) / 3).astype(jnp.bfloat16)).astype(jnp.float32), 2),
        (lambda w, x: jnp.sum(mixed(mixed(mixed(x, x, w[0]), x, w[1]), x, w[2])), 3),
        (lambda w, x: jnp.sum(scanned_mixed(w, x @ w[0])), 3),
        (lambda w, x: jnp.sum(2.0 * x + jnp.tanh(x @ w[0])) / jnp.sum(jnp.abs(w)), 0),
        (lambda w, x: jnp.sum(jnp.tanh(x @ w[0]) @ w[1]), 0),
        (lambda w, x: jnp.sum(x - x.mean(-1, keepdims=True)) + jnp.sum(w), 0),
    ],
    ids=[
        "loop",
        "scan",
        "scan+outputs",
        "fori",
        "remat",
        "jit",
        "vmap",
        "cast",
        "x0",
        "x0 scanned",
        "one sum",
        "no sum",
        "centring",
    ],
)
def test_small_programs(loss, sublayers):
    traced = jax.make_jaxpr(loss)(jnp.ones((sublayers or 2, 4, 4)), jnp.ones((3, 4)))
    if sublayers == 0:
        with pytest.raises(NoTrunk):
            trunks(traced, 1)
        return
    (found,) = trunks(traced, 1)
    assert found.sublayers == sublayers
    assert any(isinstance(step, Fork | Loop) for step in found.steps)
