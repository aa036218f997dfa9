"""Who may use a session, and until when: one thread at a time, in one process, while it is open."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from segdeploy.errors import SegdeployError


class Lease:
    """Guards one engine or session.

    What would hang or crash in C++ becomes a sentence: use after close, after a fork, and from two
    threads at once.
    """

    def __init__(self, what: str) -> None:
        """Begin; `what` begins the sentences."""
        self._what = what
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._holder: int | None = None  # thread that has the lock
        self._is_open = True

    def check(self) -> None:
        """Raise unless it is open, and this is the process that opened it."""
        if os.getpid() != self._process:
            raise SegdeployError(
                f"{self._what}: was opened before this process was forked and cannot be used in it",
                hint="open it in each worker, for example in gunicorn's post_worker_init, "
                "or start processes by spawn",
            )
        if not self._is_open:
            raise SegdeployError(f"{self._what}: is closed", hint="open it again")

    @contextmanager
    def use(self, *, wait: bool = False) -> Iterator[None]:
        """Hold it for this thread; `wait` for another thread that does.

        Raises:
            SegdeployError: as `check`; or another thread holds it, and this one shall not wait.
        """
        self.check()
        if not self._lock.acquire(blocking=wait):
            raise SegdeployError(
                f"{self._what}: is in use by {self._user()}",
                hint="engine.session() makes one for each thread, SessionPool shares a few",
            )
        self._holder = threading.get_ident()
        try:
            self.check()  # it may have been closed meanwhile
            yield
        finally:
            self._holder = None
            self._lock.release()

    def _user(self) -> str:
        if self._holder == threading.get_ident():
            return "a map of this thread that has not ended"
        return "another thread"

    def end(self, free: Callable[[], None]) -> None:
        """Close, and call `free` once: after the thread that holds it, never in a forked child."""
        if os.getpid() != self._process:
            return
        if self._holder == threading.get_ident():  # would wait for itself
            raise SegdeployError(f"{self._what}: is in use by {self._user()}; finish it first")
        with self._lock:
            if self._is_open:
                free()
                self._is_open = False
