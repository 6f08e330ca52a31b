"""Nothing is lost: a run that was killed, or ran out of disk, continues from its last whole checkpoint to the same bits."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import killing
import numpy as np
import orbax.checkpoint as ocp
import pytest

import gradflow as gf
from gradflow import progress
from gradflow.results.naming import stem
from gradflow.training.checkpoints import Checkpoints, digest
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


@pytest.mark.long
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


@pytest.mark.long
def test_a_full_disk_stops_with_a_clear_line_and_the_last_checkpoint_is_whole(models, data, tmp_path, monkeypatch):
    shown = threading.Lock()
    shown.acquire()
    monkeypatch.setattr(
        progress, "SHOWN", shown
    )  # so that there is no bar, which goes to a file here, full like any other
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
        ({"readings": "economy"}, "inline was 'reading', now 'economy'"),
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


# ---- whose a checkpoint is, and what is left of it -----------------------------------------------------------

SHORT = {"steps": 2, "seeds": 2, "checkpoint_every": 1, "readings": "economy"}
KNOWN = {"models": {"pre": {"depth": 1}, "x/y": {"depth": 2}}, "recipe": {"lr": 1e-3}, "key": "0"}
STATE = {"n": np.int32(3), "w": np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)}
RECORDS = {"loss": ([0, 2], [np.ones(2), np.zeros(2)]), "rms": ([2], [np.ones((2, 3))])}


def opened(folder, resume=True, **other):
    return Checkpoints.opened(folder, {**KNOWN, **other}, resume=resume)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of a run with one checkpoint."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    with opened(folder, resume=False) as keeper:
        keeper.save("pre", 3, STATE, RECORDS)
    return folder


@pytest.fixture
def copy(kept, tmp_path):
    return Path(shutil.copytree(kept, tmp_path / "run"))


def read(folder, model="pre", **other):
    with opened(folder, **other) as keeper:
        return keeper.restore(model, STATE)


def test_what_was_written_is_what_is_read(copy):
    step, state, records = read(copy)
    assert step == 3
    assert jax.tree.all(jax.tree.map(np.array_equal, state, STATE))
    assert jax.tree.all(jax.tree.map(np.array_equal, records, RECORDS))
    assert read(copy, "x/y")[::2] == (0, {})


def test_models_whose_names_are_nearly_the_same_have_folders_of_their_own(tmp_path):
    names = ["x/y", "x.y", "x-y"]
    known = {"models": {name: {} for name in names}}
    with opened(tmp_path, resume=False, **known) as keeper:
        for i, name in enumerate(names):
            keeper.save(name, i + 1, {**STATE, "n": np.int32(i)}, RECORDS)
        assert [int(keeper.restore(name, STATE)[1]["n"]) for name in names] == [0, 1, 2]
        with pytest.raises(ValueError, match=r"a model can't be called 'configuration\.json'"):
            keeper.restore("configuration.json", STATE)


def test_without_its_configuration_a_folder_is_resumed_by_the_same_run_and_by_no_other(models, data, tmp_path):
    options = {**SHORT, "checkpoints": tmp_path / "run"}
    one = {"pre": models["pre"]}
    first = train(one, data, Recipe(), **options)
    (tmp_path / "run" / "configuration.json").unlink()
    with pytest.raises(
        FileExistsError, match=r"run/pre/3 holds a run of another .*: recipe\.lr was 0\.001, now 0\.5; name"
    ):
        train(one, data, Recipe(lr=0.5), resume=True, **options)
    assert same(first, train(one, data, Recipe(), resume=True, **{**options, "checkpoint_every": 5}))


def test_a_checkpoint_is_refused_by_every_other_run(copy):
    (copy / "configuration.json").unlink()
    with pytest.raises(FileExistsError, match="holds a run: resume it"), opened(copy, resume=False):
        pass
    for other, line in (
        ({"recipe": {"lr": 0.5}}, r"run/pre/3 holds a run of another configuration: recipe\.lr was 0\.001, now 0\.5"),
        ({"key": "7"}, "key was '0', now '7'"),
        ({"models": {"pre": {"depth": 2}}}, "models.depth was 1, now 2"),
        ({"seeds": 3}, "seeds was None, now 3"),
    ):
        with pytest.raises(FileExistsError, match=line):
            read(copy, **other)
    assert not (copy / "configuration.json").exists()
    assert read(copy, models={"pre": {"depth": 1}, "another": {}})[0] == 3  # it decides nothing of this one


def test_another_models_checkpoint_in_the_place_of_ones_own_is_refused(copy):
    (copy / "pre").rename(copy / stem("x/y"))
    with pytest.raises(FileExistsError, match=r"/3 holds a run of another configuration: model was 'pre', now 'x/y'"):
        read(copy, "x/y")


def written_again(folder: Path, change, honest: bool) -> None:
    """The checkpoint with `change` made to its arrays, told in its SHA-256 or not."""
    with ocp.CheckpointManager(folder / "pre") as manager:
        tree = manager.restore(3, args=ocp.args.StandardRestore())
        told = json.loads(manager.metadata(3).custom_metadata["gradflow"])
    change(tree)
    told |= {"sha256": digest(tree)} if honest else {}
    shutil.rmtree(folder / "pre")
    with ocp.CheckpointManager(folder / "pre") as manager:
        manager.save(3, args=ocp.args.StandardSave(tree), custom_metadata={"gradflow": json.dumps(told)})


def largest(folder: Path) -> Path:
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def piped(path: Path) -> None:
    """Opening it waits for a writer that never comes."""
    path.unlink()
    os.mkfifo(path)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("no such file")


DAMAGES = {
    "a step that is empty": lambda run: (shutil.rmtree(run / "pre/3"), (run / "pre/3").mkdir()),
    "a step that is a file": lambda run: (shutil.rmtree(run / "pre/3"), (run / "pre/3").touch()),
    "a step beyond the last": lambda run: (run / "pre/3").rename(run / "pre" / ("9" * 30)),
    "a later step that is empty": lambda run: (run / "pre/7").mkdir(),
    "no metadata": lambda run: (run / "pre/3/_CHECKPOINT_METADATA").unlink(),
    "half its metadata": lambda run: os.truncate(run / "pre/3/_CHECKPOINT_METADATA", 99),
    "no arrays": lambda run: shutil.rmtree(run / "pre/3/default"),
    "a flipped bit in its arrays": lambda run: flipped(largest(run / "pre/3/default/ocdbt.process_0")),
    "half its arrays": lambda run: os.truncate(largest(run / "pre/3/default/ocdbt.process_0"), 999),
    "a pipe for its metadata": lambda run: piped(run / "pre/3/_CHECKPOINT_METADATA"),
    "a pipe for its arrays": lambda run: piped(largest(run / "pre/3/default/ocdbt.process_0")),
    "a link to nothing": lambda run: linked(run / "pre/3/default/_METADATA"),
    "another value": lambda run: written_again(run, lambda tree: tree["state"]["0000"].fill(1), False),
    "a record missing": lambda run: written_again(run, lambda tree: tree["records"].pop("loss"), False),
    "no records": lambda run: written_again(run, lambda tree: tree.pop("records"), False),
    "another shape": lambda run: written_again(run, lambda tree: tree["state"].update({"0001": np.ones(3)}), True),
    "another type": lambda run: written_again(run, lambda tree: tree["state"].update({"0000": np.int64(1)}), True),
    "an array more": lambda run: written_again(run, lambda tree: tree["state"].update({"9999": np.ones(3)}), True),
    "no weights": lambda run: written_again(run, lambda tree: tree.pop("state"), True),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_one_line_with_place_and_remedy(damage, copy, capfd):
    DAMAGES[damage](copy)
    step = max((copy / "pre").iterdir(), key=lambda path: int(path.name))
    line = (
        rf"^{step} is damaged, or no checkpoint of ours \(.*\): delete it, and pre goes on from the one before, or from"
    )
    with pytest.raises(OSError, match=line) as refused:
        read(copy)
    assert len(str(refused.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda path: path.write_text('{"models": '), r"is damaged \(.*\): delete it, and each checkpoint says itself"),
        (lambda path: path.write_text("[1]"), "is damaged .a list"),
        (lambda path: (path.unlink(), path.mkdir()), "is a directory: a regular file is expected; delete it, and each"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a FIFO: a regular file is expected; delete it, and each"),
        (
            lambda path: (path.unlink(), path.symlink_to("no")),
            "there is no file .*: it is a link to nothing; delete it",
        ),
        (lambda path: path.write_text("{}"), "holds a run of another configuration"),
        (
            lambda path: path.write_text('{"a":' * 600 + "1" + "}" * 600),
            "configuration: (it was nested too deeply|'a.a.a.a)",
        ),
        (
            lambda path: path.write_text('{"a\\nb": "' + "x" * 10**5 + '"}'),
            r"configuration: 'a\\nb' was 'x+…, now None",
        ),
        (
            lambda path: (shutil.rmtree(path.parent / "pre"), (path.parent / "pre").touch()),
            "pre is no folder: delete it",
        ),
    ],
)
def test_a_damaged_configuration_is_one_line_with_the_remedy(damage, line, copy):
    damage(copy / "configuration.json")
    with pytest.raises(OSError, match=line) as refused:
        read(copy)
    assert len(str(refused.value).splitlines()) == 1


def test_a_run_that_another_process_is_at_is_left_alone(copy):
    program = (
        "import sys, gradflow.results.locks as l\nwith l.held(sys.argv[1]): print(1, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, copy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "1\n"
    before = sorted(copy.rglob("*"))
    with pytest.raises(
        BlockingIOError, match=f"run is in use by process {other.pid} on .*: wait, or name another folder"
    ):
        read(copy)
    assert sorted(copy.rglob("*")) == before
    other.kill()
    other.communicate()
    assert read(copy)[0] == 3
    assert not (copy / ".gradflow.lock").exists()


def test_a_full_disk_is_one_line_with_no_tracebacks_beside_it(tmp_path, capfd):
    """Orbax logs what its threads raised; the line says it."""
    files = resource.getrlimit(resource.RLIMIT_FSIZE)
    line = r"can't write x/y's checkpoint of step 1 to .*run \(File too large\): none is whole"
    with opened(tmp_path / "run", resume=False) as keeper:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, files[1]))
        try:
            with pytest.raises(OSError, match=line):
                keeper.save("x/y", 1, STATE, RECORDS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, files)
        assert not list(keeper.folder.glob("*/*"))
        keeper.save("x/y", 1, STATE, RECORDS)
    assert capfd.readouterr() == ("", "")
    assert read(tmp_path / "run", "x/y")[0] == 1
