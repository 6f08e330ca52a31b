"""Damaged folders: what a finished run, report, atlas or model left, copied and damaged in one place, and used again.

Whatever the damage, it is refused in a line, or the numbers that come out are those of the whole folder.
"""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import gradflow as gf

from . import world
from .cases import EITHER, REFUSED, RIGHT, Line
from .checks import need, same
from .commands import asked
from .damages import DAMAGES
from .world import command, text, two

OPTIONS = {"steps": 2, "seeds": 2, "record": (0, 1, 2), "readings": "economy"}
LLAMA = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 11,
    "max_position_embeddings": 6,
}
LLAMA |= {
    "model_type": "llama",
    "intermediate_size": 12,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
}
ATLAS = ["pre", "none"]


# ---- made once ----------------------------------------------------------------------------------------------


def make_toy(folder: Path) -> None:
    """A trained model's folder, with a tokenizer."""
    import interop_files
    from tokenizers import Tokenizer, models, pre_tokenizers

    interop_files.saved(folder, LLAMA, interop_files.contents(LLAMA))
    own = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.save(str(folder / "tokenizer.json"))


def make_run(folder: Path) -> None:
    """Checkpoints of a run, and its results."""
    found = gf.train(two(), text(), gf.Recipe(), checkpoints=folder, **OPTIONS)[1]
    gf.results.save(found, world.ROOT / "shared" / "run.nc")


def make_halfway(folder: Path) -> None:
    """Checkpoints of the same run, the second model's taken away: as of one that was killed between them."""
    make_run(folder)
    shutil.rmtree(next(path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.startswith("post")))


def make_bundle(folder: Path) -> None:
    """What `gradflow train` writes."""
    command(*asked("train"), "--out", str(folder))


def make_atlas(folder: Path) -> None:
    """What `gradflow atlas` writes."""
    command(*asked("atlas", wirings=ATLAS), "--out", str(folder))


MADE = {"toy": make_toy, "run": make_run, "halfway": make_halfway, "bundle": make_bundle, "atlas": make_atlas}


# ---- used again ---------------------------------------------------------------------------------------------


def copied(name: str) -> Path:
    """A copy of what was made once."""
    return Path(shutil.copytree(world.prepared(name), "copy"))


def damaged(name: str, share: float, how, place: float, seed: int, then, only: str = "*") -> None:
    """The folder, damaged in one file, and used."""
    folder = copied(name)
    files = sorted(path for path in folder.rglob(only) if path.is_file())
    path = files[min(int(share * len(files)), len(files) - 1)]
    print(f"{how.__name__} {path}")
    how(path, place, seed)
    then(folder)


def resumed(folder: Path, **options) -> None:
    """A run that goes on ends with the numbers of the whole one."""
    again = gf.train(two(), text(), gf.Recipe(), checkpoints=folder, resume=True, **{**OPTIONS, **options})[1]
    same(gf.results.load(world.prepared("run").with_name("run.nc")), again, "the run resumed", rtol=0)


def loaded(folder: Path) -> None:
    """The results of a report."""
    gf.results.load(folder / "results.nc")


def made_again(folder: Path, **more) -> None:
    """The same command on a folder: finished, with the same numbers."""
    world.complete(str(folder), *asked("train", **more))
    same(gf.results.load(world.prepared("bundle") / "results.nc"), gf.results.load(folder / "results.nc"), rtol=0)


def went_on(folder: Path, **more) -> None:
    """An atlas that goes on has the numbers of the whole one."""
    world.complete(str(folder), *asked("atlas", **{"wirings": ATLAS, "overwrite": [], **more}))
    same(gf.results.load(world.prepared("atlas") / "results.nc"), gf.results.load(folder / "results.nc"), rtol=1e-4)


def read_model(folder: Path) -> None:
    """A model and its weights."""
    world.names()["read"](folder)


def rewritten(folder: Path) -> None:
    """A report of other results into a folder."""
    gf.report.write(world.started(), folder)


def kept_as_it_was(folder: Path, act) -> None:
    """What is refused leaves the folder as it was."""
    before = {path: path.lstat().st_size for path in folder.rglob("*")}
    try:
        act(folder)
    except Exception:
        need({path: path.lstat().st_size for path in folder.rglob("*")} == before, "refused, but the folder changed")
        raise


AGAIN = ("lambda folder: made_again(folder, overwrite=[])", "lambda folder: made_again(folder, resume=[])")
USES = {
    "run": (("resumed",), "*", 3.0),
    "halfway": (("resumed",), "*", 2.0),
    "bundle": (("loaded", *AGAIN, "rewritten"), "*", 3.0),
    "atlas": (("went_on",), "*.nc", 1.0),
    "toy": (("read_model",), "*", 1.5),
}
WRITTEN = [
    ("resumed(copied('run'))", RIGHT, "run"),
    ("resumed(copied('halfway'))", RIGHT, "halfway"),
    ("made_again(copied('bundle'), overwrite=[])", RIGHT, "bundle"),
    ("kept_as_it_was(copied('bundle'), made_again)", REFUSED, "bundle"),
    ("made_again(copied('bundle'), resume=[])", RIGHT, "bundle"),
    ("went_on(copied('atlas'))", RIGHT, "atlas"),
    ("read_model(copied('toy'))", RIGHT, "toy"),
    ("loaded(copied('bundle'))", RIGHT, "bundle"),
    ("gf.train(two(), text(), gf.Recipe(), checkpoints=copied('run'), **OPTIONS)", REFUSED, "run"),
    ("kept_as_it_was(copied('run'), lambda folder: resumed(folder, steps=3))", REFUSED, "run"),
    ("kept_as_it_was(copied('run'), lambda folder: resumed(folder, seeds=3))", REFUSED, "run"),
    ("kept_as_it_was(copied('run'), lambda folder: resumed(folder, key=3))", REFUSED, "run"),
    ("kept_as_it_was(copied('run'), lambda folder: resumed(folder, record=(0, 2)))", REFUSED, "run"),
    ("gf.train(two(), text(), gf.Recipe(lr=0.5), checkpoints=copied('run'), resume=True, **OPTIONS)", REFUSED, "run"),
    ("gf.train(two(), text(), gf.Recipe('sgd'), checkpoints=copied('run'), resume=True, **OPTIONS)", REFUSED, "run"),
    ("gf.train(two(), text(8, 3), gf.Recipe(), checkpoints=copied('run'), resume=True, **OPTIONS)", REFUSED, "run"),
    (
        "gf.train({'pre': one()}, text(), gf.Recipe(), checkpoints=copied('run'), resume=True, **OPTIONS)",
        REFUSED,
        "run",
    ),
    (
        "gf.train({'pre': two()['post'], 'post': one()}, text(), gf.Recipe(), checkpoints=copied('run'), resume=True, **OPTIONS)",
        REFUSED,
        "run",
    ),
    ("other_rate_without_configuration(copied('run'))", EITHER, "run"),
    ("swapped(copied('run'))", EITHER, "run"),
    *(
        (f"kept_as_it_was(copied('bundle'), lambda folder: made_again(folder, {words}))", REFUSED, "bundle")
        for words in (
            "lr='0.5'",
            "key='3'",
            "wirings='none'",
            "optimizer='sgd'",
            "lr='0.5', resume=[]",
            "init='bert'",
        )
    ),
    *(
        (f"kept_as_it_was(copied('atlas'), lambda folder: went_on(folder, {words}))", REFUSED, "atlas")
        for words in ("lr='0.5'", "key='3'", "init='bert'")
    ),
    ("rewritten(copied('bundle'))", REFUSED, "bundle"),
    ("only_checkpoints(copied('bundle'))", RIGHT, "bundle"),
    ("busy(copied('run'))", EITHER, "run"),
    ("in_two_processes()", EITHER, "run"),
    ("gf.train(two(), text(), gf.Recipe(), checkpoints='/dev/full/run', **OPTIONS)", REFUSED, "run"),
    ("narrow(lambda: gf.train(two(), text(), gf.Recipe(), checkpoints='kept', **OPTIONS))", REFUSED, "run"),
    ("narrow(lambda: gf.results.save(started(), 'a.nc'))", REFUSED, "run"),
    ("narrow(lambda: gf.report.write(started(), 'out'))", REFUSED, "run"),
    ("narrow(lambda: command(*asked('train'), '--out', 'out'))", REFUSED, "run"),
]


def other_rate_without_configuration(folder: Path) -> None:
    """Without its configuration, a folder may not hand its losses to another learning rate."""
    (folder / "configuration.json").unlink()
    again = gf.train(two(), text(), gf.Recipe(lr=0.5), checkpoints=folder, resume=True, **OPTIONS)[1]
    same(gf.train(two(), text(), gf.Recipe(lr=0.5), **OPTIONS)[1], again, "the run of the new rate")


def swapped(folder: Path) -> None:
    """The checkpoints of two models, each in the other's place."""
    one, other = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))[:2]
    one.rename(folder / "between")
    other.rename(one)
    (folder / "between").rename(other)
    resumed(folder)


def only_checkpoints(folder: Path) -> None:
    """A folder that holds only our own checkpoints is resumed."""
    for path in folder.iterdir():
        if path.name != "checkpoints":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    made_again(folder, resume=[])


def busy(folder: Path) -> None:
    """While a run is on, its folder is resumed from within: refused, or the same numbers."""

    def watch(_) -> None:
        resumed(folder)

    shutil.rmtree(next(path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.startswith("post")))
    gf.train(two(), text(), gf.Recipe(), checkpoints=folder, resume=True, watch=watch, **OPTIONS)


def in_two_processes() -> None:
    """A lock of a process that has ended keeps nobody out."""
    folder = copied("run")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    resumed(folder)


def narrow(act, room: int = 4096) -> None:
    """What is done where no file may grow beyond some bytes, as on a full disk: refused in a line, and nothing half-written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
        left = [path for path in Path(".").rglob("*.nc") if path.is_file()]
        need(not left, f"left half-written: {left}")


def lines(chance: Random) -> Iterator[Line]:
    """Those written out, then damages without end."""
    yield from (Line(code, expected, (name,)) for code, expected, name in WRITTEN)
    shares = [share for _, _, share in USES.values()]
    while True:
        name = chance.choices(list(USES), shares)[0]
        thens, only, _ = USES[name]
        how, then = chance.choice(DAMAGES), chance.choice(thens)
        if then in ("loaded", "rewritten") or "made_again" in then:
            only = (
                "results.nc"
                if then == "loaded"
                else chance.choice(("manifest.json", "configuration.json", "*", "checkpoints/**/*"))
            )
        where, place, seed = chance.random(), chance.random(), chance.randrange(1000)
        word = how.__name__
        if chance.random() < 0.25 and name != "atlas" and then != "loaded":
            word, only = "edited", "*.json"
        yield Line(f"damaged({name!r}, {where:.3f}, {word}, {place:.4f}, {seed}, {then}, {only!r})", EITHER, (name,))
