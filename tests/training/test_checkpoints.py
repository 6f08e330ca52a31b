"""Nothing is lost: a run that was killed, or ran out of disk, continues from its last whole checkpoint to the same bits."""

import resource
import signal
from functools import partial

import jax
import killing
import numpy as np
import pytest

import gradflow as gf
from gradflow.training import loop
from gradflow.training.checkpoints import Checkpoints
from gradflow.training.loop import train
from gradflow.training.optimizers import Adam
from gradflow.training.recipe import Recipe

pytestmark = pytest.mark.usefixtures("quickly_compiled")
WORDS = """train --wirings post --depth 1 --width 8 --heads 2 --context 8 --batch 2 --steps 6 --seeds 2 --dropout 0.1
 --warmup 3 --checkpoint-every 2 --readings economy update --record every:2"""
TOY = WORDS.split()


@pytest.fixture(scope="module")
def models(quickly_compiled):
    return gf.transformers("pre", "post", depth=1, width=8, heads=2, context=8)


@pytest.fixture(scope="module")
def data():
    return gf.data.text(context=8, batch=2)


def same(one, other) -> bool:
    """Whether all weights and all readings have the same bits."""
    weights = zip(jax.tree.leaves(one[0]), jax.tree.leaves(other[0]), strict=True)
    readings = (
        one[1][name].to_dataset().drop_attrs().identical(other[1][name].to_dataset().drop_attrs()) for name in one[0]
    )
    return all(np.array_equal(a, b) for a, b in weights) and all(readings)


def test_a_run_that_is_killed_three_times_ends_with_the_bits_of_one_that_was_not(tmp_path):
    """During a step, while a checkpoint is written, and while the result is."""
    assert killing.run([*TOY, "--out", "whole"], tmp_path) == 0
    for place, call, delay in (("step", 4, 0), ("checkpoint", 1, 0.05), ("result", 1, 0.3)):
        killed = killing.run([*TOY, "--out", "killed", "--resume"], tmp_path, place, call, delay)
        assert killed == -signal.SIGKILL, place
        assert not (tmp_path / "killed" / "results.nc").exists()
    assert killing.run([*TOY, "--out", "killed", "--resume"], tmp_path) == 0
    assert not list((tmp_path / "killed").glob(".part*"))
    assert killing.bits(tmp_path / "killed") == killing.bits(tmp_path / "whole")


def test_a_full_disk_stops_with_a_clear_line_and_the_last_checkpoint_is_whole(models, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, "tqdm", partial(loop.tqdm, disable=True)
    )  # its bar goes to a file here, full like any other
    options = {"steps": 4, "seeds": 2, "checkpoint_every": 1}
    straight = train(models, data, Recipe(), **options)
    files = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(told):
        if told["step"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, files[1]))

    try:
        with pytest.raises(OSError, match=r"pre's checkpoint of step 3 .*the one of step 2 is whole; free some space"):
            train(models, data, Recipe(), watch=fill, checkpoints=tmp_path / "run", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, files)
    resumed = train(models, data, Recipe(), checkpoints=tmp_path / "run", resume=True, **options)
    assert same(straight, resumed)


def test_a_finished_run_is_given_again_without_a_step(models, data, tmp_path):
    options = {"steps": 3, "seeds": 2, "checkpoints": tmp_path / "run"}
    first = train(models, data, Recipe(), **options)
    seen = []
    again = train(models, data, Recipe(), watch=seen.append, resume=True, **options)
    assert same(first, again)
    assert seen == []


def test_another_configuration_is_refused_and_the_difference_named(models, data, tmp_path):
    options = {"steps": 2, "seeds": 2, "checkpoints": tmp_path / "run"}
    recipe = Recipe(Adam(), lr=1e-3)
    train(models, data, recipe, **options)
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match=r"holds a run: resume it \(resume=True, --resume\)"):
        train(models, data, recipe, **options)
    for other, difference in (
        ({"optimizer": Recipe(Adam(), lr=2e-3)}, r"recipe\.lr was 0\.001, now 0\.002"),
        ({"optimizer": Recipe(Adam(b2=0.5), lr=1e-3)}, r"recipe\.optimizer\.b2 was 0\.999, now 0\.5"),
        ({"seeds": 3}, "seeds was 2, now 3"),
        ({"steps": 5}, "steps was 2, now 5"),
        ({"key": 1}, "key was '0', now '1'"),
        ({"readings": "economy"}, "riding was 'reading', now 'economy'"),
        ({"data": gf.data.text(context=8, batch=3)}, "data.batch was 2, now 3"),
    ):
        asked = {"models": models, "data": data, "optimizer": recipe, **options, **other}
        with pytest.raises(FileExistsError, match=difference):
            train(asked.pop("models"), asked.pop("data"), asked.pop("optimizer"), resume=True, **asked)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_one_is_refused_before_anything_runs(models, data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="name a folder that can be written"):
        train(models, data, Recipe(), checkpoints=tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="checkpoint_every is 0"):
        train(models, data, Recipe(), checkpoints=tmp_path / "run", checkpoint_every=0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_checkpoints_come_with_time_or_with_steps_and_after_the_last(tmp_path):
    counted, timed = (Checkpoints(tmp_path / str(every), {}, every) for every in (3, None))
    assert [step for step in range(9) if counted.due(step, 7)] == [2, 5, 7, 8]
    assert [step for step in range(9) if timed.due(step, 7)] == [7]
    timed.saved -= 31
    assert timed.due(0, 7)
