"""The folder of a run: what is somebody else's stays, what is damaged is one line with the remedy, what is ours goes on."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gradflow.results import folder
from gradflow.results.folder import begun, filled, prepare

KNOWN = {"depth": 2, "lr": 1e-3}


def text(out):
    return json.loads((out / "manifest.json").read_text())


def test_a_run_is_begun_interrupted_begun_again_and_finished(tmp_path):
    out = tmp_path / "a" / "out"
    assert not prepare(out, KNOWN, {"time": "one"})
    assert not prepare(out, KNOWN, {"time": "two"})
    assert text(out)["begun"] == [{"time": "one"}]
    with filled(out, KNOWN, {"time": "three"}) as made:
        (made / "tables").mkdir()
        (made / "tables" / "t.csv").write_text("1")
    assert set(text(out)) == {"configuration", "provenance", "begun", "finished", "outputs", "sha256"}
    assert text(out) == folder.signed(text(out))
    assert list(text(out)["outputs"]) == ["tables/t.csv"]
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "tables"]
    with pytest.raises(FileExistsError, match=r"holds a finished run of the same configuration, of .*--overwrite"):
        prepare(out, KNOWN, {"time": "four"})
    assert prepare(out, KNOWN, {"time": "four"}, overwrite=True)
    assert "begun" not in text(out)
    with pytest.raises(FileExistsError, match=r"another configuration: depth was 2, now 3; lr was 0\.001, now None"):
        prepare(out, {"depth": 3}, {})


def test_a_finished_run_is_overwritten_on_request_and_its_own_files_go_with_it(tmp_path):
    def write(*names, **options):
        with filled(tmp_path, KNOWN, {}, **options) as scratch:
            for name in names:
                made(scratch, name)
                (scratch / name).write_text(name)

    write("a", "tables/b", "c", "d")
    (tmp_path / "c").write_text("a note of mine")
    with pytest.raises(FileExistsError, match="finished run"):
        write("a")
    write("a", "d", overwrite=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"manifest.json", "a", "c", "d"}
    assert set(text(tmp_path)["outputs"]) == {"a", "d"}


def test_a_manifest_has_its_own_checksum(tmp_path):
    with filled(tmp_path, KNOWN, {"time": "one"}) as scratch:
        made(scratch, "x")
    written = text(tmp_path)
    assert written["sha256"] != folder.signed({**written, "finished": "later"})["sha256"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "null",
        "[]",
        '{"configuration": {"depth": 2',
        '{"configuration": [1]}',
        '{"configuration": null}',
        '{"configuration": {}, "begun": {}}',
        '{"configuration": {}, "outputs": 3}',
        '{"configuration": {}, "finished": [1]}',
        '{"provenance": {}}',
        '{"name": "a web app", "icons": []}',
        '{"a":' * 2000 + "1" + "}" * 2000,
    ],
)
def test_a_damaged_manifest_is_one_line_and_left_alone(content, tmp_path):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OSError, match=r"manifest\.json is damaged.*: delete it, or name another folder$"):
        prepare(tmp_path, KNOWN, {})
    assert (tmp_path / "manifest.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_manifest_that_is_no_file_and_a_folder_that_is_none_are_one_line(tmp_path):
    def broken(name, make):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "manifest.json")
        return tmp_path / name

    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for out, line in (
        (broken("a", os.mkfifo), "manifest.json is a FIFO: a regular file is expected; delete it"),
        (broken("b", os.mkdir), "manifest.json is a directory: a regular file is expected; delete it"),
        (broken("c", lambda path: path.symlink_to("no")), "manifest.json: it is a link to nothing; delete it"),
        (broken("d", lambda path: path.symlink_to("/dev/zero")), "manifest.json is a device"),
        (tmp_path / "file", "file is no folder: name a folder"),
        (tmp_path / "fifo", "fifo is no folder: name a folder"),
        (tmp_path / "dangling", "dangling is a link to nothing: name a folder"),
        (tmp_path / "loop", "loop is a link to nothing: name a folder"),
        (tmp_path / "file" / "out", r"can't write to .*out \(Not a directory\): name a folder that can be written"),
        ("/proc/none", r"can't write to /proc/none \(No such file or directory\)"),
        (tmp_path / ("x" * 300), r"can't \w+ .*\(File name too long\)"),
        (f"{tmp_path}/\0", "can't write to .*embedded null"),
    ):
        with pytest.raises(OSError, match=line) as refused:
            prepare(out, KNOWN, {})
        assert len(str(refused.value).splitlines()) == 1


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path, monkeypatch):
    def refusing(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(folder.Path, "iterdir", refusing)
    with pytest.raises(OSError, match=r"can't read .* \(Permission denied\): name another folder"):
        prepare(tmp_path, KNOWN, {})


def made(out, *names):
    for name in names:
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()


def test_a_folder_of_our_own_checkpoints_is_one_whose_manifest_is_lost(tmp_path):
    for i, ours in enumerate(
        (
            [
                "checkpoints/configuration.json",
                "checkpoints/pre/3/_CHECKPOINT_METADATA",
                "checkpoints/pre/4.orbax-tmp/",
            ],
            ["checkpoints/pre/3/"],
            [
                "checkpoints/.gradflow.lock",
                ".gradflow.lock",
                ".part-abc/x",
                ".results.nc.99999999.part",
                "checkpoints/",
            ],
            ["wirings/pre.nc", "wirings/.post.nc.99999999.part"],
        )
    ):
        out = tmp_path / str(i)
        made(out, *ours)
        assert not prepare(out, KNOWN, {})
        left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        files = {name for name in ours if name.startswith(("checkpoints/", "wirings/")) and not name.endswith("/")}
        assert left == {"manifest.json"} | files


def test_what_is_somebody_elses_is_refused_and_left_alone(tmp_path):
    for i, theirs in enumerate(
        (
            ["thesis.txt"],
            ["checkpoints/model.safetensors"],
            ["checkpoints/checkpoint-500/config.json"],
            ["checkpoints/pre/3/x", "checkpoints/pre/notes.txt"],
            ["checkpoints"],
            ["wirings"],
            ["wirings/board.kicad"],
            ["results.nc"],
            [".hidden"],
            [".part"],
        )
    ):
        out = tmp_path / str(i)
        made(out, *theirs)
        with pytest.raises(FileExistsError, match="holds something else: name another folder, or empty this one"):
            prepare(out, KNOWN, {})
        assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == sorted(theirs)


def test_a_run_holds_its_folder_and_another_process_is_told(tmp_path):
    program = f"from gradflow.results.folder import prepare; prepare({str(tmp_path)!r}, {KNOWN}, {{}})"
    with begun(tmp_path, KNOWN, {"time": "one"}) as finished:
        assert not finished
        refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        with filled(tmp_path, KNOWN, {}) as made:  # the same process may
            (made / "x").touch()
    assert f"BlockingIOError: {tmp_path} is in use by process {os.getpid()}" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "x"]


def test_what_stands_in_the_way_of_a_result_is_one_line_and_stays(tmp_path):
    out = tmp_path / "out"
    prepare(out, KNOWN, {})
    made(out, "figures", "results.nc/mine")
    for name, line in (("figures/f.pdf", "File exists|Not a directory"), ("results.nc", "Is a directory")):
        with pytest.raises(OSError, match=rf"can't write to .*out \({line}\)"), filled(out, KNOWN, {}) as scratch:
            made(scratch, name)
    assert (out / "results.nc" / "mine").exists()
    assert not list(out.glob(".part*"))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="a disk of some kilobytes is mounted")
def test_a_full_disk_is_one_line_whatever_is_written(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed")
    try:
        with (
            pytest.raises(
                OSError, match=r"^can't write to .*out \(No space left on device\): free some space, or name"
            ),
            filled(disk / "out", KNOWN, {}) as scratch,
        ):
            (scratch / "x").write_bytes(bytes(10**5))
        assert [path.name for path in (disk / "out").iterdir()] == ["manifest.json"]
        (disk / "fill").write_bytes(bytes(shutil.disk_usage(disk).free))
        with pytest.raises(OSError, match=r"^can't write to .*new \(No space left on device\): free some space"):
            prepare(disk / "new", KNOWN, {})
    finally:
        subprocess.run(["umount", disk], check=True)
