"""One process a folder, and the other is told who has it; a killed one leaves nothing in the way."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from gradflow.results import locks
from gradflow.results.locks import held

HOLDING = """
import sys, time
from gradflow.results.locks import held
with held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_is_told_who_has_the_folder_until_that_one_is_killed(other, tmp_path):
    line = (
        rf"{tmp_path} is in use by process {other.pid} on {socket.gethostname()} \(since 2\S+\): wait, or name another"
    )
    with pytest.raises(BlockingIOError, match=line), held(tmp_path):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / ".gradflow.lock").exists()
    with held(tmp_path):
        assert json.loads((tmp_path / ".gradflow.lock").read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_thread_may_enter_again_and_another_thread_may_not(tmp_path):
    told = []

    def enter():
        try:
            with held(tmp_path):
                told.append("held")
        except BlockingIOError as error:
            told.append(str(error))

    with held(tmp_path), held(f"{tmp_path}/."):
        threads = [threading.Thread(target=enter) for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
    assert len(told) == 2
    assert all(f"in use by process {os.getpid()}" in line for line in told)
    enter()
    assert told[-1] == "held"


def test_the_lock_is_let_go_after_an_error_and_where_the_folder_is_gone(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(KeyError), held(inner):
        raise KeyError
    assert list(inner.iterdir()) == []
    with held(inner):
        (inner / ".gradflow.lock").unlink()
        inner.rmdir()
    inner.mkdir()
    with held(inner):
        pass


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[1]", '{"process": "x"}', '{"process": 1, "host": "elsewhere"}', "\0"]
)
def test_a_lock_file_that_nobody_holds_is_taken_over_whatever_is_in_it(text, tmp_path):
    (tmp_path / ".gradflow.lock").write_text(text)
    with held(tmp_path):
        assert json.loads((tmp_path / ".gradflow.lock").read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_lock_is_one_line(tmp_path):
    (tmp_path / "folder" / ".gradflow.lock").mkdir(parents=True)
    with pytest.raises(OSError, match=r"can't write to .*folder \(Is a directory\)"), held(tmp_path / "folder"):
        pass
    (tmp_path / "theirs").write_text("years of work")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".gradflow.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=r"can't write to .*linked \(Too many levels"), held(tmp_path / "linked"):
        pass
    assert (tmp_path / "theirs").read_text() == "years of work"
    with pytest.raises(OSError, match=r"can't write to .*none \(No such file or directory\)"), held(tmp_path / "none"):
        pass


def test_without_locks_in_the_file_system_what_is_written_decides(tmp_path, monkeypatch):
    def refusing(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refusing)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = socket.gethostname()
    for process, host in ((os.getppid(), here), (1, "elsewhere")):
        (tmp_path / ".gradflow.lock").write_text(json.dumps({"process": process, "host": host, "since": "noon"}))
        line = rf"by process {process} on {host} \(since noon\): .*or delete .gradflow.lock in it where that process is gone"
        with pytest.raises(BlockingIOError, match=line), held(tmp_path):
            pass
    (tmp_path / ".gradflow.lock").write_text(json.dumps({"process": gone.pid, "host": here}))
    with held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
