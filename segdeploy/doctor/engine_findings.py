"""Lines of `segdeploy doctor` about TensorRT, TensorRT-RTX and the packages that reach a GPU."""

from collections.abc import Sequence

from segdeploy.doctor.finding import Finding
from segdeploy.doctor.machine import MODULES, Machine
from segdeploy.doctor.wheels import (
    AMPERE,
    TENSORRT,
    TENSORRT_RTX,
    TURING,
    VOLTA_PYTHON,
    VOLTA_TENSORRT,
    Hardware,
    cuda_misfit,
    cuda_python_line,
    dotted,
    parse_version,
    replacing,
    tensorrt_line,
    tensorrt_misfit,
    tensorrt_rtx_line,
)

CUDA_PYTHON = ("cuda-python", "cuda-bindings")
DATA_CENTRE = (9, 10)  # majors of compute capability that TensorRT-RTX's support matrix leaves out


def find_tensorrt(machine: Machine) -> Finding:
    """Its version has to fit the GPU, its CUDA the driver."""
    hardware = machine.hardware
    installed = [name for name in TENSORRT if name in machine.versions]
    line = tensorrt_line(hardware)
    if VOLTA_TENSORRT in line and machine.python[:2] > VOLTA_PYTHON:
        line = f"{line}  # in Python {dotted(VOLTA_PYTHON)}: newer ones have no wheel of it"
    no_line = "use ONNX Runtime or PyTorch on this GPU"
    if not installed:
        found = "not installed; its engines are built and run on an NVIDIA GPU"
        return Finding("tensorrt", False, found, line or no_line, {"tensorrt": False})
    version = machine.versions[installed[0]]
    problem = (
        tensorrt_misfit(hardware, version)
        or _flavour_misfit(installed, hardware)
        or _load_problem(installed, machine)
    )
    if not problem:
        return Finding("tensorrt", True, version, gives={"tensorrt": True})
    advice = replacing(installed, line) or no_line
    return Finding("tensorrt", False, f"{version}; {problem}", advice, {"tensorrt": False})


def find_tensorrt_rtx(machine: Machine) -> Finding:
    """It builds anywhere; to run, its CUDA has to fit the driver."""
    name, hardware = "tensorrt-rtx", machine.hardware
    installed = [part for part in TENSORRT_RTX if part in machine.versions]
    line = tensorrt_rtx_line(hardware)
    if not installed:
        found = "not installed; its engines are built anywhere and run on an NVIDIA GPU"
        return Finding(name, False, found, line, _rtx_gives(builds=False, runs=False))
    version, again = machine.versions[installed[0]], replacing(installed, line)
    if problem := _load_problem(installed, machine):
        gives = _rtx_gives(builds=False, runs=False)
        return Finding(name, False, f"{version}; {problem}", again, gives)
    if problem := _flavour_misfit(installed, hardware):
        gives = _rtx_gives(builds=True, runs=False)
        return Finding(name, False, f"{version}; {problem}", again, gives)
    runs = hardware.capability is None or hardware.capability >= TURING
    found = "; ".join(filter(None, (version, _rtx_limit(hardware.capability))))
    return Finding(name, True, found, gives=_rtx_gives(builds=True, runs=runs))


def _rtx_gives(*, builds: bool, runs: bool) -> dict[str, bool]:
    return {"tensorrt-rtx": builds, "tensorrt-rtx on this GPU": runs}


def _rtx_limit(capability: tuple[int, int] | None) -> str:
    if capability is None:
        return ""
    if capability < TURING:
        return f"builds for other GPUs: it runs from compute capability {dotted(TURING)} on"
    if capability < AMPERE:
        return f"this GPU needs build-engine --compute-capability {dotted(capability)}"
    if capability[0] in DATA_CENTRE:
        return f"NVIDIA's support matrix has no {dotted(capability)}: prefer tensorrt"
    return ""


def find_cuda_packages(machine: Machine) -> tuple[Finding, ...]:
    """One line for cuda-python, and one for pycuda where it is installed: that is taken first."""
    need, pycuda = "a CUDA package", machine.versions.get("pycuda")
    if pycuda is None:
        return (_find_cuda_python(machine, need),)
    problem = _load_problem(["pycuda"], machine)
    if not problem:
        line = Finding("pycuda", True, f"{pycuda}; taken first, without CUDA graphs")
        return (line, _find_cuda_python(machine, ""))
    advice = "pip uninstall -y pycuda  # cuda-python is taken then"
    if machine.driver_problem is not None:
        advice = "nothing before there is a driver"
    line = Finding("pycuda", False, f"{pycuda}; {problem}", advice, {need: False})
    return (line, _find_cuda_python(machine, ""))


def _find_cuda_python(machine: Machine, need: str) -> Finding:
    name, driver = "cuda-python", machine.hardware.driver_cuda
    installed = [part for part in CUDA_PYTHON if part in machine.versions]
    line = cuda_python_line(machine.hardware)
    if not installed:
        gives = {need: False} if need else {}
        return Finding(name, False, "not installed; TensorRT engines run with it", line, gives)
    version = machine.versions[installed[0]]
    problem = _load_problem(installed, machine)
    if not problem and driver is not None and parse_version(version)[0] > driver[0]:
        problem = f"the driver ends at CUDA {dotted(driver)}"
    gives = {need: not problem} if need else {}
    if problem:
        return Finding(name, False, f"{version}; {problem}", line, gives)
    return Finding(name, True, version, gives=gives)


def _load_problem(installed: Sequence[str], machine: Machine) -> str:
    modules = [MODULES[name] for name in installed if name in MODULES]
    problems = [machine.import_problems.get(module, "") for module in modules]
    return next((f"does not load: {problem}" for problem in problems if problem), "")


def _flavour_misfit(installed: Sequence[str], hardware: Hardware) -> str:
    """Of distributions that carry the major version of CUDA in their names."""
    flavours = [major for major in (12, 13) if any(f"-cu{major}" in name for name in installed)]
    if len(flavours) > 1:
        return "the builds for CUDA 12 and 13 overwrite each other's files"
    return cuda_misfit(hardware, flavours[0]) if flavours else ""
