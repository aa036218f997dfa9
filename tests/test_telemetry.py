"""How busy and how hot a machine is, read from files and programs that are made up."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from segdeploy import telemetry
from segdeploy.telemetry import (
    SMI_QUERY,
    GpuState,
    MachineState,
    ask_nvml,
    disturbances,
    gpu_state,
    machine_state,
    others_share,
    parse_smi,
)

QUIET = MachineState(cores_s=100, busy_s=50, stolen_s=1, own_s=10, throttle_count=3)
LINE = (
    "1695, 1980, 2619, 312.45, 700.00, 64, 2345, "
    "Not Active, Not Active, Not Active, Active, Not Active"
)
STATE = GpuState(
    clock_mhz=1695,
    max_clock_mhz=1980,
    memory_clock_mhz=2619,
    power_w=312.45,
    power_limit_w=700.0,
    temperature_c=64,
    memory_used_bytes=2345 << 20,
    throttled_by=("temperature",),
)


def after(**grown: float) -> MachineState:
    """Ten seconds of the cores later; what this process did is six of them."""
    values = {"cores_s": 10, "busy_s": 6, "own_s": 6, "stolen_s": 0, "throttle_count": 0} | grown
    known = {name: getattr(QUIET, name) + value for name, value in values.items()}
    return MachineState(**known)


@pytest.mark.parametrize(
    ("later", "found"),
    [
        (after(), ()),
        (after(busy_s=6.4), ()),
        (after(busy_s=9), ("other work took 30% of the cores",)),
        (after(stolen_s=2), ("the hypervisor took 20% of the cores",)),
        (after(throttle_count=2), ("heat slowed the processor 2 times",)),
        (MachineState(memory_pressure=12.0), ("memory was short in 12% of the time",)),
        (MachineState(gpu=STATE), ("the GPU was slowed by temperature",)),
        (MachineState(gpu=GpuState()), ()),
        (MachineState(), ()),
    ],
)
def test_what_slows_a_run_is_said(later: MachineState, found: tuple[str, ...]) -> None:
    assert disturbances(QUIET, later) == found


def test_own_work_is_not_that_of_others() -> None:
    assert others_share(QUIET, after()) == 0
    assert others_share(QUIET, after(busy_s=8)) == pytest.approx(0.2)
    assert others_share(QUIET, MachineState()) is None


def test_a_process_sees_its_own_work_in_the_files_of_the_kernel() -> None:
    before = machine_state()
    stop = time.process_time() + 0.3
    while time.process_time() < stop:
        pass
    later = machine_state()

    assert before.own_s is not None
    assert later.own_s is not None
    assert later.own_s - before.own_s >= 0.3
    if before.cores_s is not None:
        assert later.cores_s is not None
        assert later.busy_s is not None
        assert before.busy_s is not None
        assert later.cores_s - before.cores_s >= 0.2  # counted in ticks of 10 ms
        assert later.busy_s - before.busy_s >= 0.2
    assert later.gpu is None


def test_only_cores_that_we_may_use_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\n"
        "cpu1 200 100 0 500 100 50 0 50 0 0\ncpu2 1 1 1 1 1 1 1 1 0 0\nintr 12\n\n"
    )
    for core, clock, heat in ((0, 2_000_000, 4), (1, 3_000_000, 1), (2, 9_000_000, 99)):
        for name, value in (
            ("cpufreq/scaling_cur_freq", clock),
            ("thermal_throttle/core_throttle_count", heat),
        ):
            path = tmp_path / f"cpu{core}" / name
            path.parent.mkdir(parents=True)
            path.write_text(f"{value}\n")
    (tmp_path / "memory").write_text("some avg10=7.25 avg60=1.00 total=9\nfull avg10=1.00\n")
    monkeypatch.setattr(telemetry, "STAT", tmp_path / "stat")
    monkeypatch.setattr(telemetry, "CORES", tmp_path)
    monkeypatch.setattr(telemetry, "PRESSURE", tmp_path / "memory")
    monkeypatch.setattr(telemetry, "usable_cores", lambda: [0, 1])

    found = machine_state()

    tick = os.sysconf("SC_CLK_TCK")
    assert found.cores_s == pytest.approx(2000 / tick)
    assert found.busy_s == pytest.approx((150 + 350) / tick)
    assert found.stolen_s == pytest.approx(50 / tick)
    assert found.clock_mhz == 2500
    assert found.throttle_count == 5
    assert found.memory_pressure == 7.25


def test_a_machine_that_tells_nothing_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STAT", "CORES", "PRESSURE"):
        monkeypatch.setattr(telemetry, name, tmp_path / "absent")

    found = machine_state()

    assert (found.cores_s, found.clock_mhz, found.throttle_count) == (None, None, None)
    assert found.memory_pressure is None


def test_a_line_of_nvidia_smi_is_a_state() -> None:
    assert parse_smi(LINE) == STATE
    assert len(SMI_QUERY) == 12


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    line = ", ".join(["[N/A]"] * 6 + ["[Not Supported]"] * 6)

    assert parse_smi(line) == GpuState()
    assert parse_smi("") is None
    assert parse_smi("No devices were found") is None


def test_nvidia_smi_is_asked_of_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho "{LINE}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed

    found = gpu_state("0000:3B:00.0")

    assert found == STATE
    arguments = (tmp_path / "arguments").read_text()
    assert "--id=0000:3B:00.0 --query-gpu=clocks.sm," in arguments


def test_no_nvml_and_no_nvidia_smi_tell_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert gpu_state("0000:3B:00.0") is None


class _NvmlError(Exception):
    pass


def _nvml(**changed: object) -> SimpleNamespace:
    """The functions of nvidia-ml-py that are called, for one hot GPU."""
    known = {
        "NVMLError": _NvmlError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByPciBusId": lambda bus_id: bus_id,
        "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1695, 2: 2619}[kind],
        "nvmlDeviceGetMaxClockInfo": lambda _, kind: {1: 1980}[kind],
        "nvmlDeviceGetPowerUsage": lambda _: 312_450,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
        "nvmlDeviceGetTemperature": lambda _, kind: 64,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=2345 << 20),
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: 0x40 | 0x01,  # and idle
    }
    return SimpleNamespace(**(known | changed))


def _fail(*_: object) -> None:
    raise _NvmlError("not supported")


def test_nvml_says_what_nvidia_smi_says() -> None:
    assert ask_nvml(_nvml(), "0000:3B:00.0") == STATE


def test_what_nvml_does_not_support_is_left_out() -> None:
    found = ask_nvml(
        _nvml(nvmlDeviceGetPowerUsage=_fail, nvmlDeviceGetCurrentClocksThrottleReasons=_fail), "x"
    )

    assert found is not None
    assert (found.power_w, found.power_limit_w, found.throttled_by) == (None, 700.0, ())
    assert ask_nvml(_nvml(nvmlDeviceGetHandleByPciBusId=_fail), "x") is None
    assert ask_nvml(_nvml(nvmlInit=_fail), "x") is None
