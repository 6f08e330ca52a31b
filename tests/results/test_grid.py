"""A grid: one tree back, a file a cell, a failure or a killed process that is nobody else's."""

from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import xarray as xr
from gridded import failing, killed_once, squares

import gradflow as gf
from gradflow.results.executors import Processes

NUMBERS = {f"number {n}": {"number": n} for n in range(4)}


def test_every_cell_is_a_node_with_all_that_the_function_returned(tmp_path):
    here = gf.grid(squares, NUMBERS)
    assert list(here.children) == list(NUMBERS)
    assert gf.results.settings(here)["failed"] == {}
    for name, cell in NUMBERS.items():
        xr.testing.assert_identical(here[name]["pre"].to_dataset(), squares(**cell)["pre"].to_dataset())
        assert here[name].attrs["number"] == cell["number"]
    with ThreadPoolExecutor(2) as threads:
        xr.testing.assert_identical(gf.grid(squares, NUMBERS, executor=threads), here)
    for _ in range(2):
        xr.testing.assert_equal(gf.grid(squares, NUMBERS, folder=tmp_path), here)
    nested = gf.grid(squares, {"a/b": {"number": 1}, "a/c": {"number": 2}})
    assert nested["a/b/pre"].square.equals(here["number 1/pre"].square)


def test_what_is_in_the_folder_is_not_made_again(tmp_path):
    gf.grid(squares, NUMBERS, folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.nc")}
    assert len(before) == 4
    five = NUMBERS | {"number 9": {"number": 9}}
    assert list(gf.grid(squares, five, folder=tmp_path).children) == list(five)
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written


def test_a_failure_keeps_its_traceback_and_is_tried_again(tmp_path):
    cells = {"good": {"number": 1}, "bad": {"number": -1}}
    tree = gf.grid(failing, cells, folder=tmp_path)
    assert list(tree.children) == ["good"]
    trace = gf.results.settings(tree)["failed"]["bad"]
    assert trace.startswith("Traceback")
    assert trace.endswith("ValueError: -1 has no root\n")
    assert (tmp_path / "bad.traceback.txt").read_text() == trace
    with pytest.raises(ValueError, match="-1 has no root"):
        gf.grid(failing, {"bad": {"number": -1}})


def test_wrong_input_is_one_line(tmp_path):
    gf.grid(squares, NUMBERS, folder=tmp_path)
    other = {"number 0": {"number": 5}}
    with pytest.raises(FileExistsError, match="arguments.number was 0, now 5; name another folder"):
        gf.grid(squares, other, folder=tmp_path)
    with pytest.raises(TypeError, match="executor is 'two': a concurrent.futures.Executor, a number of processes, or"):
        gf.grid(squares, NUMBERS, executor="two")
    with pytest.raises(ValueError, match="there is no cell: "):
        gf.grid(squares, {})
    with pytest.raises(TypeError, match="the cell one is 1: the arguments of the function by name are expected"):
        gf.grid(squares, {"one": 1})
    with pytest.raises(TypeError, match="the cell one gave 1: an xarray.DataTree is expected"):
        gf.grid(abs_of, {"one": {"number": -1}})


def abs_of(number: int):
    return abs(number)


@pytest.mark.parametrize("pool", ["ours", pytest.param("one", marks=pytest.mark.long)])
def test_a_killed_process_loses_its_own_cell_alone(pool, tmp_path):
    """Of processes that are one executor those not done are lost too. Again it is the undisturbed tree, bit for bit."""
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    cells = {f"number {n}": {"number": n, "victim": 7, "folder": str(made)} for n in range(20)}
    executor = 2 if pool == "ours" else ProcessPoolExecutor(2, get_context("spawn"))
    tree = gf.grid(killed_once, cells, executor=executor, folder=kept)
    failed = gf.results.settings(tree)["failed"]
    assert "BrokenProcessPool" in failed["number 7"]
    assert sorted([*tree.children, *failed]) == sorted(cells)
    if pool == "ours":
        assert list(failed) == ["number 7"]
    before = {path: path.stat().st_mtime_ns for path in kept.glob("*.nc")}
    assert len(before) >= 20 - len(failed)  # a process that is about to be terminated may still write
    again = gf.grid(killed_once, cells, folder=kept)
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written
    undisturbed = gf.grid(squares, {name: {"number": cell["number"]} for name, cell in cells.items()})
    xr.testing.assert_equal(again, undisturbed)
    for name in cells:
        assert again[name]["pre"].square.values.tobytes() == undisturbed[name]["pre"].square.values.tobytes()


class BreaksAfterwards(Executor):
    """Makes every call, and is broken before it has said so."""

    def submit(self, function, /, *arguments, **options) -> Future:
        function(*arguments, **options)
        future = Future()
        future.set_exception(BrokenExecutor("terminated abruptly"))
        return future


def test_what_was_written_before_an_executor_broke_is_no_failure(tmp_path):
    tree = gf.grid(squares, NUMBERS, executor=BreaksAfterwards(), folder=tmp_path)
    assert gf.results.settings(tree)["failed"] == {}
    assert not list(tmp_path.glob("*.traceback.txt"))
    xr.testing.assert_equal(tree, gf.grid(squares, NUMBERS))
    with pytest.raises(BrokenExecutor, match="terminated abruptly"):
        gf.grid(squares, NUMBERS, executor=BreaksAfterwards())


def test_processes_are_an_executor():
    with Processes(1) as processes:
        assert processes.submit(squares, 3).result(timeout=200)["pre"].sizes == {"depth": 4}


@pytest.mark.long
def test_the_processes_of_another_tool_are_an_executor():
    """Joblib's, by their own library."""
    loky = pytest.importorskip("loky", reason="pip install loky")
    theirs = loky.get_reusable_executor(max_workers=2)
    try:
        xr.testing.assert_identical(gf.grid(squares, NUMBERS, executor=theirs), gf.grid(squares, NUMBERS))
    finally:
        theirs.shutdown(kill_workers=True)
