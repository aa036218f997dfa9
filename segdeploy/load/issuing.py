"""Issues queries: a line to sessions in threads, or one query after the other in this one."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol

from segdeploy.load.line import Line, Query

Answer = Callable[
    [Sequence[int]], object
]  # the queries with these numbers; returns when it is done


class Clock(Protocol):
    """Seconds from the beginning of a run."""

    def now(self) -> float:
        """The time."""

    def sleep_until(self, moment_s: float) -> None:
        """Return then, or a little later."""


class WallClock:
    """The real one; it begins when it is made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def now(self) -> float:
        """The time."""
        return time.perf_counter() - self._begin

    def sleep_until(self, moment_s: float) -> None:
        """Return then, or a little later; never by spinning, which would take a core from work."""
        time.sleep(max(moment_s - self.now(), 0.0))


def work_off(line: Line, answers: Sequence[Answer], clock: Clock) -> None:
    """Let each of `answers` claim from the line, in a thread of its own, until there is no more.

    Raises:
        Exception: the first that one of them raised; the others have ended.
    """
    lock = threading.Lock()
    errors: list[Exception] = []

    def work(answer: Answer) -> None:
        while True:
            with lock:
                claimed = line.claim(clock.now())
            if claimed is None:
                return
            if isinstance(claimed, float):
                clock.sleep_until(claimed)
                continue
            try:
                answer(claimed)
            except Exception as error:  # whatever it is, the caller has to hear of it
                errors.append(error)
                with lock:
                    line.stop(clock.now())
                return
            with lock:
                line.finish(claimed, clock.now())

    with ThreadPoolExecutor(len(answers)) as pool:
        working = [pool.submit(work, answer) for answer in answers]
        # Not by `Thread.join`: one that Ctrl-C interrupts takes a thread that works for one that
        # has ended (Python 3.11, bpo-45274), and the next call returns at once.
        try:
            wait(working)
        except KeyboardInterrupt:  # sessions are closed next: nobody may be using them
            with lock:
                line.stop(clock.now())
            wait(working)
            raise
    if errors:
        raise errors[0]


def one_by_one(
    answer: Answer, clock: Clock, *, samples: int, seconds: float, max_seconds: float, least: int
) -> list[Query]:
    """Issue a query of `samples` images when the one before is answered.

    Args:
        answer: the images with these numbers.
        clock: of the run.
        samples: images of one query.
        seconds: least duration.
        max_seconds: most.
        least: queries that are wanted even if that takes longer than `seconds`.
    """
    queries: list[Query] = []
    while (now := clock.now()) < max_seconds and (now < seconds or len(queries) < least):
        first = len(queries) * samples
        answer(range(first, first + samples))
        queries.append(Query(now, began_s=now, done_s=clock.now()))
    return queries
