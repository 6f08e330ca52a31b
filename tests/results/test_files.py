"""What is asked for as a file is a file, or one line says what it is; what is written is whole."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from gradflow.results.files import clear, read_json, reason, regular, whole, write_json


def test_a_regular_file_and_a_link_to_one_are_taken(tmp_path):
    path = tmp_path / "text"
    path.write_text("words")
    (tmp_path / "link").symlink_to(path)
    assert regular(str(path)) == path
    assert regular(tmp_path / "link") == tmp_path / "link"


def test_a_fifo_a_socket_a_device_and_a_directory_are_refused_without_being_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    listening = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(tmp_path)  # a socket's name is short
    listening.bind("socket")
    os.chdir(here)
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path / "link", "a FIFO"),
        (tmp_path / "socket", "a socket"),
        ("/dev/zero", "a device"),
        (tmp_path, "a directory"),
    ):
        with pytest.raises(OSError, match=f"{path} is {kind}: a regular file is expected"):
            regular(path)
    listening.close()


def test_what_is_not_there_or_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name, line in (
        ("missing", "there is no file .*missing$"),
        ("dangling", "there is no file .*dangling: it is a link to nothing$"),
        ("loop", r"can't read .*loop \(Too many levels of symbolic links\): name a file$"),
        ("file/inside", r"can't read .*inside \(Not a directory\): name a file$"),
        ("x" * 300, r"can't read .* \(File name too long\): name a file$"),
        ("nul\0", r"'.*nul\\x00' is no name of a file$"),
        ("two\nlines", r"there is no file '.*two\\nlines'$"),
        ("\udce4", r"there is no file '.*\\udce4'$"),
    ):
        with pytest.raises(OSError, match=line) as refused:
            regular(tmp_path / name)
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[1, 2]",
        b"3",
        b'{"a": 1',
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        bytes(range(256)),
    ],
)
def test_what_is_no_object_of_json_is_one_line_with_the_remedy(text, tmp_path):
    (tmp_path / "m.json").write_bytes(text)
    with pytest.raises(OSError, match=r"m\.json is damaged \(.*\): delete it$") as refused:
        read_json(tmp_path / "m.json", "delete it")
    assert len(str(refused.value)) < 250


def test_json_that_is_no_file_or_is_too_large_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(10**12)
    for name, line in (("fifo", "is a FIFO"), ("missing", "there is no file"), ("large", "more than 67108864 bytes")):
        with pytest.raises(OSError, match=f"{line}.*delete it$"):
            read_json(tmp_path / name, "delete it")


def test_a_file_is_whole_or_not_there(tmp_path):
    write_json(tmp_path / "m.json", {"a": "ü"})
    assert read_json(tmp_path / "m.json", "") == {"a": "ü"}
    write_json(tmp_path / "bytes.json", {"caf\udce9": "caf\udce9"})
    assert read_json(tmp_path / "bytes.json", "") == {"caf\udce9": "caf\udce9"}
    (tmp_path / "bytes.json").unlink()
    with pytest.raises(UnicodeEncodeError), whole(tmp_path / "m.json") as part:
        part.write_text("half \udce4", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"can't write to .*folder \(Is a directory\): name a folder that can be written"):
        write_json(tmp_path / "folder", {})
    assert read_json(tmp_path / "m.json", "") == {"a": "ü"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "m.json"]


def test_what_went_wrong_is_told_in_the_systems_words_whoever_quotes_them():
    for error in (
        OSError(errno.ENOSPC, "a long story\nof another library"),
        ValueError("RESOURCE_EXHAUSTED: Failed to write 5 bytes [os_error_code='28']"),
        RuntimeError("Can't flush (file write failed: time = Sun\n, errno = 28, error message = …)"),
    ):
        assert reason(error) == "No space left on device"
    assert reason(KeyError("records")) == "no 'records'"
    assert reason(ValueError("two\nlines " + "x" * 1000)) == f"two lines {'x' * 90}…"
    assert reason(ValueError()) == "ValueError"


def test_scratch_goes_but_for_a_living_writers(tmp_path):
    """Of a process that is gone, of this one, and of none; that of the process that started this one stays."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = [f".r.nc.{gone.pid}.part", f".r.nc.{os.getpid()}.part", f".part-{gone.pid}-abc", ".part-x1_", ".m.0.part"]
    lives = [f".r.nc.{os.getppid()}.part", f".part-{os.getppid()}-abc"]
    others = ["part", ".part", "r.nc.1.part", ".hidden", ".r.nc.part"]
    for name in dead + lives + others:
        (tmp_path / name).mkdir() if "abc" in name else (tmp_path / name).touch()
    clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(lives + others)
