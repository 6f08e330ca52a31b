"""Compiled programs that are kept: read back bit-equal, refused to a process that sums wrongly, whole, and not too many."""

import os
import subprocess
import sys
import zlib
from importlib.metadata import version
from pathlib import Path

import pytest

from gradflow.cli.registry import keep_programs, without_cache
from gradflow.compiling import caching

PROGRAM = """
import sys, warnings
import gradflow as gf
print(gf.cache(sys.argv[1]))
import jax, jax.numpy as jnp
heard = []
jax.monitoring.register_event_listener(lambda event, **_: heard.append(event))
print(jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.arange(6.0).reshape(2, 3)).tolist())
print("/jax/compilation_cache/cache_hits" in heard, "/jax/compilation_cache/cache_misses" in heard)
"""


def child(program: str, folder: Path, **variables) -> subprocess.CompletedProcess:
    bare = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "GRADFLOW_CACHE")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(folder)],
        capture_output=True,
        text=True,
        env=bare | variables,
    )


@pytest.mark.long
def test_what_one_process_compiled_the_next_one_reads(tmp_path):
    """Other flags are another program; an entry cut short, as a killed process leaves it, is compiled again."""
    first, second = child(PROGRAM, tmp_path), child(PROGRAM, tmp_path)
    assert first.stderr == second.stderr == ""
    place, numbers, found = first.stdout.splitlines()
    assert place == str(tmp_path)
    assert found == "False True"
    assert second.stdout.splitlines() == [place, numbers, "True False"]
    entries = list(tmp_path.glob(f"{caching.edition()}/*-cache"))
    assert entries
    for entry in entries:
        entry.write_bytes(entry.read_bytes()[:-9])
    third = child(PROGRAM, tmp_path)
    assert third.stderr == ""
    assert third.stdout.splitlines() == [place, numbers, "False True"]


@pytest.mark.skipif(not version("jaxlib").startswith("0.10.2"), reason="this jaxlib sums rightly")
def test_a_process_that_sums_wrongly_neither_reads_nor_writes(tmp_path):
    late = child(
        "import sys, jax.numpy as jnp; jnp.ones(3) + 1\nimport gradflow; gradflow.cache(sys.argv[1])", tmp_path
    )
    assert "gradflow.compiler.Unusable: this jaxlib sums wrongly" in late.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("system", "variable", "folder"),
    [
        ("linux", "XDG_CACHE_HOME", "named/gradflow"),
        ("linux", "", "home/.cache/gradflow"),
        ("darwin", "", "home/Library/Caches/gradflow"),
        ("win32", "LOCALAPPDATA", "named/gradflow"),
        ("win32", "", "home/AppData/Local/gradflow"),
    ],
)
def test_the_folder_is_where_the_system_has_caches(system, variable, folder, monkeypatch):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "named")
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert caching.users_folder(system) == Path(folder)


@pytest.mark.parametrize("end", [-1, -4, -20, 1, 0])
def test_an_entry_cut_short_is_not_whole(end):
    entry = zlib.compress(os.urandom(100))
    assert caching.is_whole(entry)
    assert not caching.is_whole(entry[:end])


def test_the_oldest_entries_go(tmp_path, monkeypatch):
    folder = tmp_path / "jax-1"
    folder.mkdir()
    for age, name in enumerate(["new-cache", "old-cache", "oldest-cache"]):
        (folder / name).write_bytes(bytes(100))
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(caching, "LARGEST", 200)
    caching._delete_oldest(tmp_path)
    assert sorted(entry.name for entry in folder.iterdir()) == ["new-cache", "old-cache"]


def test_the_command_line_can_do_without(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(caching.FOLDER, str(tmp_path))
    assert without_cache(["compare", "--no-cache", "--depth", "2"]) == ["compare", "--depth", "2"]
    keep_programs()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    monkeypatch.setenv(caching.FOLDER, str(tmp_path / "file"))
    keep_programs()
    assert "note: compiled programs are not kept: can't write to" in capsys.readouterr().err
