"""LAPACK has one thread while gradflow computes, and after that what it had."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gradflow.model.numerics.lapack import one_thread
from gradflow.model.numerics.settings import usual_settings


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """What the process had, where nobody decided."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with threadpool_limits(2, "blas"):
        yield


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blocks_inside_of_another_change_nothing():
    def another():
        with one_thread():
            return threads()

    with one_thread(), ThreadPoolExecutor(2) as pool:
        assert another() == {1}
        assert pool.submit(another).result() == {1}
        assert threads() == {1}
    assert threads() == {2}
    with pytest.raises(ValueError, match="lost"), one_thread():
        raise ValueError("lost")
    assert threads() == {2}


def test_an_entry_point_computes_so_unless_the_environment_decides(monkeypatch):
    within = usual_settings()(threads)
    assert within() == {1}
    assert threads() == {2}
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert within() == {2}
