"""What is asked for as a file is a file, or one line says what it is."""

import os
import socket

import pytest

from gradflow.results.files import regular


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
