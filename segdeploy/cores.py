"""Cores of the CPU: which this process may use, and how many threads suit them."""

import math
import os
import sys
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")
# Of a container: microseconds it may compute in each period (kernel documentation, cgroup v2, v1).
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000", or "max 100000"
OLD_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")  # "200000", or "-1"
OLD_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cores() -> list[int]:
    """Logical cores that this process may run on: its affinity mask, where the system has one."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def default_threads() -> int:
    """How many: a thread for each physical core of this process, as far as its container may.

    ONNX Runtime asks for neither: left to itself it makes a thread for each core of the machine and
    ties each to one. On one core of two (`taskset`) the demo took twice as long so.
    """
    cores = usable_cores()
    siblings = {_read(TOPOLOGY / f"cpu{core}/topology/thread_siblings_list") for core in cores}
    physical = len(cores) if "" in siblings else len(siblings)
    return math.ceil(min(physical, container_cores()))


def container_cores() -> float:
    """How many cores' time the container may take; infinity: as much as there is."""
    found = _read(QUOTA).split() or [_read(OLD_QUOTA), _read(OLD_PERIOD)]
    if len(found) != 2 or not all(text.isdecimal() and int(text) for text in found):
        return math.inf
    quota, period = map(int, found)
    return quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # another system, or a container that hides it
        return ""
