"""A few sessions of one engine, shared by many threads."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

from segdeploy.closing import Closing
from segdeploy.errors import BusyError, SegdeployError
from segdeploy.runtime.session import Engine, Session


class SessionPool(Closing):
    """Lends its sessions, each to one thread at a time; a context manager that frees them."""

    def __init__(self, engine: Engine, size: int) -> None:
        """Open `size` sessions now: on a GPU, that many contexts have to fit into its memory."""
        if size < 1:
            raise SegdeployError(f"a pool of {size} sessions; wanted 1 or more")
        self.manifest = engine.manifest
        self._sessions: list[Session] = []
        self._free: queue.LifoQueue[Session] = queue.LifoQueue()  # the last used has warm buffers
        try:
            for _ in range(size):
                self._sessions.append(engine.session())
                self._free.put(self._sessions[-1])
        except SegdeployError:
            self.close()
            raise

    @contextmanager
    def session(self, timeout_s: float | None = None) -> Iterator[Session]:
        """Borrow one; None waits for as long as it takes.

        Raises:
            BusyError: none came back in time.
        """
        try:
            borrowed = self._free.get(timeout=timeout_s)
        except queue.Empty:
            raise BusyError(
                f"all {len(self._sessions)} sessions of {self.manifest.model} were in use for "
                f"{timeout_s} s",
                hint="try again later, or open more sessions",
            ) from None
        try:
            yield borrowed
        finally:
            self._free.put(borrowed)

    def close(self) -> None:
        """Free the sessions; a thread that has one ends first."""
        for session in self._sessions:
            session.close()
