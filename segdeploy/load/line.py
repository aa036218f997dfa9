"""Queries that stand in a line until somebody is free: no thread and no clock in here.

A query's time begins when it was to come, not when work on it began: while everybody is busy the
next ones come all the same. Timing from the beginning of work would leave out the waiting, which is
the larger part under load ("coordinated omission", Gil Tene).
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segdeploy.load.arrivals import Arrival
from segdeploy.load.sequential import is_broken, is_kept

LOOK_S = 0.25  # how often it is asked whether a run is decided


@dataclass
class Query:
    """What became of one query; seconds from the beginning of the run."""

    scheduled_s: float
    stream: int = 0
    began_s: float | None = None
    done_s: float | None = None
    is_dropped: bool = False
    left_s: float | None = None  # when the run gave up, if the query still waited then

    @property
    def latency_s(self) -> float | None:
        """From the moment it was to come; infinite if dropped, None if not answered."""
        if self.is_dropped:
            return math.inf
        return None if self.done_s is None else self.done_s - self.scheduled_s

    @property
    def waited_s(self) -> float | None:
        """How long it had waited when the run gave up: its latency is more; None: not left."""
        return None if self.left_s is None else self.left_s - self.scheduled_s


@dataclass(frozen=True, kw_only=True)
class Ending:
    """When no further query comes.

    Args:
        seconds: not before this.
        max_seconds: not after this.
        bound_s: latency that decides; None: nothing does, and the schedule ends by itself.
        percent: of the queries that keep the bound.
    """

    seconds: float
    max_seconds: float
    bound_s: float | None = None
    percent: float = 99.0


class Line:
    """Hands out queries in the order they come, to whoever claims them."""

    def __init__(
        self,
        arrivals: Iterator[Arrival],
        ending: Ending,
        *,
        batch: int = 1,
        replaces: bool = False,
    ) -> None:
        """Nothing comes before the first claim.

        Args:
            arrivals: in the order of their time.
            ending: when they end.
            batch: most queries that are handed out at a time.
            replaces: whether a stream's next query replaces one that still waits, as with cameras.
        """
        self.queries: list[Query] = []
        self._arrivals = arrivals
        self._next = next(arrivals, None)
        self._ending = ending
        self._batch = batch
        self._replaces = replaces
        self._waiting: deque[int] = deque()
        self._over = 0
        self._answered = 0
        self._look_s = LOOK_S

    def claim(self, now_s: float) -> Sequence[int] | float | None:
        """Queries to answer now; or the moment to claim again; None: there will be no more."""
        while self._next is not None and self._next.at_s <= now_s:
            if self._next.at_s >= self._ending.max_seconds:
                self._next = None
                break
            self._join(self._next)
            self._next = next(self._arrivals, None)
        if now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._look(now_s)
        if self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            for index in taken:
                self.queries[index].began_s = now_s
            return taken
        if self._next is None or self._next.at_s >= self._ending.max_seconds:
            return None
        return self._next.at_s

    def finish(self, indices: Sequence[int], now_s: float) -> None:
        """They have been answered."""
        bound_s = self._ending.bound_s
        for index in indices:
            query = self.queries[index]
            query.done_s = now_s
            self._answered += 1
            self._over += bound_s is not None and now_s - query.scheduled_s > bound_s

    def stop(self, now_s: float) -> None:
        """Let no further query come, and leave those that wait."""
        self._next = None
        for index in self._waiting:
            self.queries[index].left_s = now_s
        self._waiting.clear()

    def _join(self, arrival: Arrival) -> None:
        if self._replaces:
            for index in self._waiting:
                if self.queries[index].stream == arrival.stream:
                    self.queries[index].is_dropped = True
                    self._waiting.remove(index)
                    self._answered += 1
                    self._over += 1
                    break
        self._waiting.append(len(self.queries))
        self.queries.append(Query(arrival.at_s, arrival.stream))

    def _look(self, now_s: float) -> None:
        """End the run if it is decided; what waits is answered unless the bound is lost.

        It is lost if it is even when all that is being answered now is in time, and all that comes
        before the least duration is over: a single stall does not end a long run.
        """
        bound_s, percent = self._ending.bound_s, self._ending.percent
        if bound_s is None:
            return
        late = sum(now_s - self.queries[index].scheduled_s > bound_s for index in self._waiting)
        over, known = self._over + late, self._answered + late
        begun = len(self.queries) - self._answered - len(self._waiting)
        expected = round(len(self.queries) * self._ending.seconds / now_s)  # at the least duration
        if is_broken(over, max(known + begun, expected), percent):
            self.stop(now_s)
        elif now_s >= self._ending.seconds and is_kept(over, known, percent):
            self._next = None
