"""The lines of `segdeploy doctor`: pure functions of what was found on a machine."""

from collections.abc import Sequence

from segdeploy.doctor.engine_findings import find_cuda_packages, find_tensorrt, find_tensorrt_rtx
from segdeploy.doctor.finding import Finding
from segdeploy.doctor.machine import Machine
from segdeploy.doctor.probes import Provider
from segdeploy.doctor.wheels import (
    MIN_TENSORRT,
    OLDEST_CUDA,
    ONNXRUNTIME,
    ONNXRUNTIME_CUDA_13,
    TURING,
    VOLTA,
    VOLTA_TENSORRT,
    cuda_misfit,
    dotted,
    onnxruntime_line,
    parse_version,
    replacing,
    torch_line,
)
from segdeploy.environment import OPENCV, gibibytes

MIN_PYTHON = (3, 11)  # requires-python in pyproject.toml
MIN_MEMORY_BYTES = 4 << 30  # DeepLabV3+ in PyTorch peaks at 2.05 GiB (FP32, 1024x2048, batch 1)
MIN_DISK_BYTES = 2 << 30  # one model in all precisions, its checkpoint and its engines


def diagnose(machine: Machine) -> tuple[Finding, ...]:
    """Every line, in the order in which one would put things right."""
    return (
        _python(machine.python),
        _gpu(machine),
        _driver(machine),
        _torch(machine),
        _onnxruntime(machine),
        *(_provider(provider, machine) for provider in machine.providers),
        find_tensorrt(machine),
        find_tensorrt_rtx(machine),
        *find_cuda_packages(machine),
        _memory(machine.memory_bytes),
        _disk(machine.free_disk_bytes),
        _opencv([(name, machine.versions[name]) for name in OPENCV if name in machine.versions]),
    )


def _python(version: Sequence[int]) -> Finding:
    found, wanted = dotted(version), dotted(MIN_PYTHON)
    if tuple(version[:2]) >= MIN_PYTHON:
        return Finding("python", True, found)
    problem = f"{found}; wanted {wanted} or newer"
    return Finding("python", False, problem, f"install Python {wanted}")


def _gpu(machine: Machine) -> Finding:
    if not machine.gpus:
        advice = "use --device cpu, or a machine with an NVIDIA GPU"
        if machine.driver_problem is None:
            advice = "the driver sees a GPU; install nvidia-smi, which says which one"
        return Finding("GPU", False, machine.gpu_problem, advice)
    found = "; ".join(
        f"{gpu.name}, compute capability {gpu.compute_capability}" for gpu in machine.gpus
    )
    capability = machine.hardware.capability
    if capability is None or capability >= TURING:
        return Finding("GPU", True, found)
    if capability >= VOLTA:
        limits = f"{found}; for it CUDA ends at 12, TensorRT at {VOLTA_TENSORRT}"
        return Finding("GPU", True, limits)
    found = f"{found}; TensorRT {dotted(MIN_TENSORRT)} begins at {dotted(VOLTA)}"
    return Finding("GPU", False, found, "use ONNX Runtime or PyTorch there, or a newer GPU")


def _driver(machine: Machine) -> Finding:
    name, problem, cuda = "NVIDIA driver", machine.driver_problem, machine.driver_cuda
    if problem is not None:
        advice = "install NVIDIA's driver (https://www.nvidia.com/drivers), or use --device cpu"
        return Finding(name, False, problem, advice, {"NVIDIA driver": False})
    found = machine.gpus[0].driver if machine.gpus else "libcuda answers"
    if cuda is None:
        return Finding(name, True, found, gives={"NVIDIA driver": True})
    found = f"{found}, for CUDA up to {dotted(cuda)}"
    if cuda >= OLDEST_CUDA:
        return Finding(name, True, found, gives={"NVIDIA driver": True})
    found = f"{found}; wanted {dotted(OLDEST_CUDA)}"
    return Finding(
        name, False, found, "install a newer driver of NVIDIA's", {"NVIDIA driver": False}
    )


def _torch(machine: Machine) -> Finding:
    version, cuda = machine.versions.get("torch", ""), machine.torch_cuda
    line = torch_line(machine.hardware)
    if not version:
        gives = {"torch": False, "torch on CUDA": False}
        problem = "not installed; export and the PyTorch row need it"
        return Finding("torch", False, problem, line, gives)
    found = f"{version} ({f'CUDA {cuda}' if cuda else 'CPU'} build)"
    if not machine.has_gpu:
        gives = {"torch": True, "torch on CUDA": bool(cuda)}
        return Finding("torch", True, found, gives=gives)
    misfit = cuda_misfit(machine.hardware, parse_version(cuda)[0]) if cuda else ""
    problem = misfit if cuda else "on a machine with a GPU"
    if problem:
        gives = {"torch": True, "torch on CUDA": False}
        advice = replacing(["torch"], line)
        return Finding("torch", False, f"{found} {problem}", advice, gives)
    return Finding("torch", True, found, gives={"torch": True, "torch on CUDA": True})


def _onnxruntime(machine: Machine) -> Finding:
    cpu, gpu = (machine.versions.get(name, "") for name in ONNXRUNTIME)
    problem = machine.import_problems.get("onnxruntime", "")
    line = onnxruntime_line(machine.hardware, gpu=machine.has_gpu)
    again = replacing(ONNXRUNTIME, line)
    nothing = {"onnxruntime": False, "onnxruntime on CUDA": False}
    if not (cpu or gpu):
        return Finding("onnxruntime", False, "not installed", line, nothing)
    found = f"{gpu} (GPU build)" if gpu else f"{cpu} (CPU build)"
    if cpu and gpu:  # both write the folder onnxruntime/, and the later one wins file by file
        found = f"onnxruntime {cpu} and onnxruntime-gpu {gpu} overwrite each other's files"
        return Finding("onnxruntime", False, found, again, nothing)
    if problem:
        found = f"{found} does not load: {problem}"
        return Finding("onnxruntime", False, found, again, nothing)
    runs = {"onnxruntime": True, "onnxruntime on CUDA": bool(gpu)}
    if not machine.has_gpu:
        return Finding("onnxruntime", True, found, gives=runs)
    if not gpu:
        return Finding("onnxruntime", False, f"{found} on a machine with a GPU", again, runs)
    built_for = 13 if parse_version(gpu)[:2] >= ONNXRUNTIME_CUDA_13 else 12
    if problem := cuda_misfit(machine.hardware, built_for):
        gives = {**runs, "onnxruntime on CUDA": False}
        return Finding("onnxruntime", False, f"{found} {problem}", again, gives)
    return Finding("onnxruntime", True, found, gives=runs)


def _provider(provider: Provider, machine: Machine) -> Finding:
    name, loads = f"onnxruntime {provider.short_name}", not provider.problem
    need = {"CPU": "onnxruntime", "CUDA": "onnxruntime on CUDA"}.get(provider.short_name)
    gives = {need: loads} if need else {}
    if loads:
        return Finding(name, True, "computes", gives=gives)
    found = f"listed, but does not load: {provider.problem}"
    return Finding(name, False, found, _provider_advice(provider, machine), gives)


def _provider_advice(provider: Provider, machine: Machine) -> str:
    hardware = machine.hardware
    match provider.short_name:
        case "CPU":
            return replacing(ONNXRUNTIME, onnxruntime_line(hardware, gpu=machine.has_gpu))
        case "CUDA" if machine.has_gpu:
            return onnxruntime_line(hardware, gpu=True)
        case "Tensorrt" if machine.has_gpu and (hardware.capability or TURING) >= TURING:
            # onnxruntime-gpu 1.31 is linked with libnvinfer.so.10, which TensorRT 11 has not
            suffix = "cu12" if hardware.cuda == 12 else "cu13"
            return f"pip install 'tensorrt-{suffix}<11'  # for others: segdeploy does without"
        case "CUDA":
            return "use --device cpu, or a machine with an NVIDIA GPU"
        case _:
            return "nothing: segdeploy does without"


def _memory(total: int | None) -> Finding:
    if total is None:
        return Finding("memory", True, "unknown: this system does not say")
    if total >= MIN_MEMORY_BYTES:
        return Finding("memory", True, gibibytes(total))
    found = f"{gibibytes(total)}; wanted {gibibytes(MIN_MEMORY_BYTES)} for 1024x2048"
    return Finding("memory", False, found, "use a smaller --size, or more memory")


def _disk(free: int) -> Finding:
    found = f"{gibibytes(free)} free in this folder"
    if free >= MIN_DISK_BYTES:
        return Finding("disk", True, found)
    found = f"{found}; wanted {gibibytes(MIN_DISK_BYTES)}"
    return Finding("disk", False, found, "work on another disk")


def _opencv(installed: Sequence[tuple[str, str]]) -> Finding:
    found = " and ".join(f"{name} {version}" for name, version in installed)
    install = "pip install opencv-python-headless"
    if not installed:
        return Finding("opencv", False, "not installed", install)
    if len(installed) == 1:
        return Finding("opencv", True, found)
    advice = replacing((name for name, _ in installed), install)
    return Finding("opencv", False, f"{found} overwrite each other's files", advice)
