"""A line worked off in simulated time: no thread, no sleep, the same result each time."""

import heapq
import itertools
from collections.abc import Callable, Sequence


class SimulatedClock:
    """Time that passes only when somebody works or sleeps."""

    def __init__(self):
        self.time_s = 0.0

    def now(self) -> float:
        return self.time_s

    def sleep_until(self, moment_s: float) -> None:
        self.time_s = max(self.time_s, moment_s)


def work_off(line, servers: int, service_s: Callable[[Sequence[int]], float]) -> None:
    """Let so many servers claim from `line`; each takes `service_s` of what it claimed."""
    order = itertools.count()
    events = [(0.0, next(order), None) for _ in range(servers)]
    while events:
        now, _, finished = heapq.heappop(events)
        if finished is not None:
            line.finish(finished, now)
        claimed = line.claim(now)
        if claimed is None:
            continue
        if isinstance(claimed, float):
            heapq.heappush(events, (claimed, next(order), None))
        else:
            heapq.heappush(events, (now + service_s(claimed), next(order), claimed))
