"""An engine hands out sessions for any number of threads, and closes all of them with itself."""

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError
from segdeploy.runtime.shared import SharedEngine
from segdeploy.spec import CPU, ClassSet, Method

MANIFEST = Manifest(model="demo", method=Method.FCN, classes=ClassSet.numbered(2))


class Loaded:
    """A session that counts how often it is shared and closed."""

    def __init__(self, made: list[Any]) -> None:
        self.manifest, self.device = MANIFEST, CPU
        self.made = made
        self.closed = 0

    def share(self) -> "Loaded":
        other = Loaded(self.made)
        self.made.append(other)
        return other

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def loaded() -> Loaded:
    return Loaded([])


def test_an_engine_is_what_it_loaded(loaded):
    engine = SharedEngine(loaded)

    assert (engine.manifest, engine.device) == (MANIFEST, CPU)


def test_every_thread_gets_a_session_of_its_own(loaded):
    engine = SharedEngine(loaded)

    with ThreadPoolExecutor(4) as pool:
        sessions = list(pool.map(lambda _: engine.session(), range(8)))

    assert len({id(session) for session in sessions}) == 8
    assert loaded not in sessions


def test_closing_an_engine_closes_its_sessions_once(loaded):
    with SharedEngine(loaded) as engine:
        sessions = [engine.session() for _ in range(3)]
    engine.close()

    assert [session.closed for session in (*sessions, loaded)] == [1] * 4


def test_a_closed_engine_has_no_sessions(loaded):
    engine = SharedEngine(loaded)
    engine.close()

    with pytest.raises(SegdeployError, match=r"^the engine of demo: is closed$"):
        engine.session()


def test_sessions_that_nobody_holds_are_not_kept(loaded):
    engine = SharedEngine(loaded)
    engine.session()
    loaded.made.clear()
    gc.collect()

    assert len(engine._sessions) == 0


def test_an_engine_is_closed_when_the_block_fails(loaded):
    with pytest.raises(ZeroDivisionError), SharedEngine(loaded):
        raise ZeroDivisionError

    assert loaded.closed == 1
