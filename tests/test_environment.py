"""What the machine says of itself."""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from segdeploy import environment
from segdeploy.environment import (
    Checkout,
    Environment,
    Gpu,
    describe_environment,
    differences,
    find_checkout,
    gibibytes,
    query_gpus,
    source_sha256,
)

TWO_GPUS = "NVIDIA A100-SXM4-80GB, 580.95.05, 8.0, 81920\nNVIDIA GB10, 580.95.05, 12.1, [N/A]\n"
A100 = Gpu("NVIDIA A100-SXM4-80GB", "580.95.05", "8.0", 81920 << 20)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str, status: int = 0) -> Path:
    """Put a program named nvidia-smi, alone, on PATH; it keeps its arguments beside it."""
    (folder / "answer").write_text(says)
    program = folder / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/arguments\n/bin/cat {folder}/answer\nexit {status}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder / "arguments"


def test_environment_names_machine_and_versions() -> None:
    described = describe_environment()

    assert described.cpu
    assert 1 <= described.usable_cores <= described.logical_cores
    assert described.memory_bytes is None or described.memory_bytes > 1 << 28
    assert dict(described.versions)["numpy"] == metadata.version("numpy")
    assert json.loads(json.dumps(described.to_dict()))["versions"]["segdeploy"]


def test_environment_tells_no_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    text = json.dumps(describe_environment().to_dict())

    assert str(tmp_path) not in text
    assert sys.prefix not in text


def test_versions_are_read_without_an_import() -> None:
    code = (
        "import sys; from segdeploy.environment import describe_environment;"
        "describe_environment();"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'cv2', 'numpy'};"
        "sys.exit(','.join(heavy & sys.modules.keys()) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_each_gpu_of_nvidia_smi_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = nvidia_smi(tmp_path, monkeypatch, TWO_GPUS)

    gpus, problem = query_gpus()

    assert problem == ""
    assert gpus == (A100, Gpu("NVIDIA GB10", "580.95.05", "12.1", None))
    assert "--query-gpu=name,driver_version,compute_cap,memory.total" in arguments.read_text()


def test_machine_without_nvidia_smi_has_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    gpus, problem = query_gpus()

    assert gpus == ()
    assert problem == "nvidia-smi is not installed"


def test_broken_driver_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580\n"
    nvidia_smi(tmp_path, monkeypatch, said, status=18)

    gpus, problem = query_gpus()

    assert gpus == ()
    assert problem == (
        "nvidia-smi exited with 18 and said: "
        "Failed to initialize NVML: Driver/library version mismatch"
    )


def test_sizes_are_written_for_people() -> None:
    assert gibibytes(3 << 29) == "1.5 GiB"
    assert gibibytes(None) == ""


HERE = Environment(
    cpu="Example CPU",
    logical_cores=8,
    usable_cores=4,
    memory_bytes=None,
    os="Example Linux",
    python="CPython 3.11.9",
    load_average=0.25,
    governor="performance",
    gpus=(A100,),
    versions=(("segdeploy", "0.1.0"), ("numpy", "2.1.0"), ("torch", "2.13.0")),
    clock_mhz=(800, 3500),
    checkout=Checkout("ab" * 20, is_dirty=False),
)


def test_an_environment_comes_back_from_json() -> None:
    assert Environment.from_dict(json.loads(json.dumps(HERE.to_dict()))) == HERE


@pytest.mark.parametrize(
    "values", [None, {}, {"versions": []}, {**HERE.to_dict(), "cpu": 3}, {"versions": {}}]
)
def test_an_environment_that_is_none_is_refused(values: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Environment.from_dict(values)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, ()),
        ({"load_average": 9.0, "checkout": None, "memory_bytes": 1}, ()),
        ({"versions": (("segdeploy", "9"), *HERE.versions[1:])}, ()),
        ({"cpu": "Other CPU"}, ("processor: Example CPU / Other CPU",)),
        ({"usable_cores": 2}, ("usable cores: 4 / 2",)),
        ({"governor": ""}, ("clock governor: performance / none",)),
        ({"clock_mhz": None}, ("clock range: (800, 3500) / none",)),
        ({"gpus": ()}, (f"GPUs: {A100.describe()} / none",)),
        ({"versions": HERE.versions[:2]}, ("torch: 2.13.0 / none",)),
        (
            {"os": "Other Linux", "python": "CPython 3.12"},
            ("system: Example Linux / Other Linux", "Python: CPython 3.11.9 / CPython 3.12"),
        ),
    ],
)
def test_what_makes_speeds_incomparable_is_named(
    change: dict[str, object], named: tuple[str, ...]
) -> None:
    assert differences(HERE, replace(HERE, **change)) == named


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_is_a_commit_and_whether_files_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert find_checkout(tmp_path) is None
    git("init", "-q")
    assert find_checkout(tmp_path) is None  # nothing is committed yet
    (tmp_path / "code.py").write_text("1\n")
    git("add", "code.py")
    git("commit", "-qm", "One")
    clean = find_checkout(tmp_path)
    (tmp_path / "code.py").write_text("2\n")
    dirty = find_checkout(tmp_path)

    assert clean == Checkout(git("rev-parse", "HEAD"), is_dirty=False)
    assert dirty == replace(clean, is_dirty=True)
    assert str(dirty) == f"{clean.commit[:12]} with changes"
    (tmp_path / "inside").mkdir()
    assert find_checkout(tmp_path / "inside") is None  # not our own checkout


def test_the_hash_of_the_modules_is_of_their_names_and_contents(tmp_path: Path) -> None:
    def hash_of(**modules: str) -> str:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, content in modules.items():
            (folder / f"{name}.py").write_text(content)
        (folder / "result.json").write_text(str(folder))
        return source_sha256(folder)

    assert hash_of(a="1", b="2") == hash_of(b="2", a="1")
    assert len({hash_of(a="1", b="2"), hash_of(a="2", b="1"), hash_of(a="1"), hash_of(c="1")}) == 4


def test_the_range_of_the_clock_is_in_megahertz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (tmp_path / "min", tmp_path / "max")
    monkeypatch.setattr(environment, "_CLOCK_RANGE", paths)

    assert describe_environment().clock_mhz is None
    for path, text in zip(paths, ("800000\n", "3500000\n"), strict=True):
        path.write_text(text)
    assert describe_environment().clock_mhz == (800, 3500)
