"""How busy, hot and slowed down a machine is, read before and after something is timed."""

import csv
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from segdeploy.cores import usable_cores

CORES = Path("/sys/devices/system/cpu")
STAT = Path("/proc/stat")
PRESSURE = Path("/proc/pressure/memory")
OTHERS_LIMIT = 0.05  # share of our cores' time that may go to others: it can slow a step as much
PRESSURE_LIMIT = 5.0  # percent of the last 10 s in which some task waited for memory
SMI_SECONDS = 30

# What lowers a GPU's clock against its user's will, in nvml.h and in nvidia-smi's columns. An idle
# GPU and a clock that somebody has set are no throttling.
THROTTLES = {
    0x04: ("power limit", "sw_power_cap"),
    0x08: ("hardware slowdown", "hw_slowdown"),
    0x20: ("temperature, by software", "sw_thermal_slowdown"),
    0x40: ("temperature", "hw_thermal_slowdown"),
    0x80: ("power brake", "hw_power_brake_slowdown"),
}
SMI_QUERY = (
    "clocks.sm", "clocks.max.sm", "clocks.mem", "power.draw", "enforced.power.limit",
    "temperature.gpu", "memory.used",
    *(f"clocks_throttle_reasons.{column}" for _, column in THROTTLES.values()),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """One GPU at one moment; None: not told."""

    clock_mhz: int | None = None  # of its multiprocessors
    max_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    memory_used_bytes: int | None = None  # by all processes
    throttled_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """A machine at one moment; counters grow from its start, None: not told.

    Args:
        load_average: of the last minute.
        clock_mhz: mean over the cores that this process may use.
        throttle_count: how often heat has slowed these cores.
        memory_pressure: percent of the last ten seconds in which some task waited for memory.
        cores_s: time of these cores, idle or not.
        busy_s: time in which they worked, for anybody.
        stolen_s: time that a hypervisor gave to other machines.
        own_s: processor time of this process.
        gpu: that the work runs on.
    """

    load_average: float | None = None
    clock_mhz: float | None = None
    throttle_count: int | None = None
    memory_pressure: float | None = None
    cores_s: float | None = None
    busy_s: float | None = None
    stolen_s: float | None = None
    own_s: float | None = None
    gpu: GpuState | None = None


def machine_state(gpu_bus_id: str = "") -> MachineState:
    """Look at this machine now.

    Args:
        gpu_bus_id: PCI address of the GPU that the work runs on; "": none.
    """
    cores = usable_cores()
    cores_s, busy_s, stolen_s = _core_times(cores)
    return MachineState(
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        clock_mhz=_mean_clock(cores),
        throttle_count=_throttle_count(cores),
        memory_pressure=_memory_pressure(),
        cores_s=cores_s,
        busy_s=busy_s,
        stolen_s=stolen_s,
        own_s=time.process_time(),
        gpu=gpu_state(gpu_bus_id) if gpu_bus_id else None,
    )


def disturbances(before: MachineState, after: MachineState) -> tuple[str, ...]:
    """What slowed the work between two looks at the machine, each in a few words."""
    found = []
    others, stolen = others_share(before, after), _share(before, after, "stolen_s")
    if others is not None and others > OTHERS_LIMIT:
        found.append(f"other work took {others:.0%} of the cores")
    if stolen is not None and stolen > OTHERS_LIMIT:
        found.append(f"the hypervisor took {stolen:.0%} of the cores")
    heat = _grown(before.throttle_count, after.throttle_count)
    if heat:
        found.append(f"heat slowed the processor {heat:.0f} times")
    if after.memory_pressure is not None and after.memory_pressure > PRESSURE_LIMIT:
        found.append(f"memory was short in {after.memory_pressure:.0f}% of the time")
    if after.gpu is not None and after.gpu.throttled_by:
        found.append(f"the GPU was slowed by {', '.join(after.gpu.throttled_by)}")
    return tuple(found)


def others_share(before: MachineState, after: MachineState) -> float | None:
    """Share of the cores' time that went to other processes; None: not told."""
    busy, own = _share(before, after, "busy_s"), _share(before, after, "own_s")
    return None if busy is None or own is None else max(busy - own, 0.0)


def _share(before: MachineState, after: MachineState, counter: str) -> float | None:
    whole = _grown(before.cores_s, after.cores_s)
    part = _grown(getattr(before, counter), getattr(after, counter))
    return None if not whole or part is None else part / whole


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _core_times(cores: Iterable[int]) -> tuple[float | None, float | None, float | None]:
    """All, busy and stolen seconds of these cores since the machine started (proc(5))."""
    lines = _read(STAT).splitlines()
    rows = {line.split()[0]: [int(value) for value in line.split()[1:9]] for line in lines if line}
    found = [rows[f"cpu{core}"] for core in cores if len(rows.get(f"cpu{core}", ())) == 8]
    if not found:
        return None, None, None
    tick = os.sysconf("SC_CLK_TCK")
    total = sum(map(sum, found))
    idle = sum(row[3] + row[4] for row in found)  # idle and iowait
    stolen = sum(row[7] for row in found)
    return total / tick, (total - idle - stolen) / tick, stolen / tick


def _mean_clock(cores: Iterable[int]) -> float | None:
    texts = [_read(CORES / f"cpu{core}/cpufreq/scaling_cur_freq").strip() for core in cores]
    found = [int(text) / 1000 for text in texts if text.isdecimal()]  # in kHz
    return sum(found) / len(found) if found else None


def _throttle_count(cores: Iterable[int]) -> int | None:
    texts = [_read(CORES / f"cpu{core}/thermal_throttle/core_throttle_count") for core in cores]
    found = [int(text) for text in map(str.strip, texts) if text.isdecimal()]
    return sum(found) if found else None


def _memory_pressure() -> float | None:
    match = re.search(r"^some avg10=([\d.]+)", _read(PRESSURE), re.MULTILINE)
    return float(match[1]) if match else None


def _read(path: Path) -> str:
    """What a file of the kernel says; "" where it is missing or refused."""
    try:
        return path.read_text()
    except OSError:
        return ""


def gpu_state(bus_id: str) -> GpuState | None:
    """Ask NVML of the GPU at this PCI address, or else nvidia-smi; None: neither answers."""
    try:
        import pynvml
    except ImportError:
        return _ask_smi(bus_id)
    return ask_nvml(pynvml, bus_id)


def ask_nvml(nvml: ModuleType, bus_id: str) -> GpuState | None:
    """What NVML says; what a GPU does not support is left out."""

    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, function)(*arguments)
        except nvml.NVMLError:
            return None

    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
    except nvml.NVMLError:
        return None
    power, limit = (
        ask("nvmlDeviceGetPowerUsage", handle),
        ask("nvmlDeviceGetEnforcedPowerLimit", handle),
    )
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0
    return GpuState(
        clock_mhz=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        max_clock_mhz=ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        power_w=None if power is None else power / 1000,  # in mW
        power_limit_w=None if limit is None else limit / 1000,
        temperature_c=ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
        memory_used_bytes=None if memory is None else int(memory.used),
        throttled_by=tuple(name for bit, (name, _) in THROTTLES.items() if reasons & bit),
    )


def _ask_smi(bus_id: str) -> GpuState | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--id={bus_id}", f"--query-gpu={','.join(SMI_QUERY)}"]
    command.append("--format=csv,noheader,nounits")
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=SMI_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_smi(answer.stdout) if answer.returncode == 0 else None


def parse_smi(line: str) -> GpuState | None:
    """One line of nvidia-smi, with "[N/A]" for what a GPU does not tell."""
    cells = [cell.strip() for cell in next(csv.reader([line.strip()]), [])]
    if len(cells) != len(SMI_QUERY):
        return None
    clock, max_clock, memory_clock, power, limit, temperature, used = map(_number, cells[:7])
    reasons = zip(THROTTLES.values(), cells[7:], strict=True)
    return GpuState(
        clock_mhz=_whole(clock),
        max_clock_mhz=_whole(max_clock),
        memory_clock_mhz=_whole(memory_clock),
        power_w=power,
        power_limit_w=limit,
        temperature_c=_whole(temperature),
        memory_used_bytes=None if used is None else int(used) << 20,  # in MiB
        throttled_by=tuple(name for (name, _), cell in reasons if cell == "Active"),
    )


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
