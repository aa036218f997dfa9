"""Libraries are tried in processes of their own, and their reasons fit in a line."""

import subprocess
from pathlib import Path

import pytest

from segdeploy.doctor import probes
from segdeploy.doctor.probes import (
    Provider,
    hide_folders,
    import_problem,
    read_reason,
    try_providers,
)

# What onnxruntime-gpu 1.31.1 and 1.26.0 said on a machine without CUDA, shortened in the middle.
CUDA_LOG = """\x1b[1;31m2026-11-25 15:44:32.889 [E:onnxruntime:Default, provider_bridge_ort.cc:2458
 operator()] [ONNXRuntimeError] : 1 : FAIL : Failed to load library /home/me/venv/onnxruntime/capi/\
libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No \
such file or directory
\x1b[m
\x1b[0;93m2026-11-25 15:44:32.889 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1295] Failed \
to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 13.*. Please install all\x1b[m
Traceback (most recent call last):
  File "/home/me/provider_session.py", line 9, in <module>
onnxruntime.capi.onnxruntime_pybind11_state.Fail: [ONNXRuntimeError] : 1 : FAIL : This session
"""
PLUGIN_LOG = """Traceback (most recent call last):
  File "/home/me/venv/onnxruntime/capi/collection.py", line 675, in _register_ep_custom_ops
RuntimeError: /onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:534 void \
onnxruntime::python::Register(PySessionOptions&, const onnxruntime::ProviderOptions&) Please install
TensorRT libraries
"""
FAKE = """
import os

class SessionOptions:
    def add_session_config_entry(self, key, value):
        assert (key, value) == ("session.disable_cpu_ep_fallback", "1")

class InferenceSession:
    def __init__(self, model, options, providers):
        if providers == ["BrokenExecutionProvider"]:
            os.abort()
        self.providers = providers

    def get_providers(self):  # falls back, as the real one does
        return ["CPUExecutionProvider"]

    def run(self, outputs, inputs):
        assert inputs["x"].shape == (1, 1, 4, 4)

def get_available_providers():
    names = ["CUDA", "Broken", "Azure", "CPU"]
    return [f"{name}ExecutionProvider" for name in names]
"""


def plant(name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a module before all others of the processes that are started."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_library_that_is_missing_is_the_reason():
    assert read_reason(CUDA_LOG) == (
        "libcublasLt.so.13: cannot open shared object file: No such file or directory; "
        "it needs cuDNN 9.* and CUDA 13.*"
    )


def test_else_the_first_line_of_the_exception_is_the_reason():
    assert read_reason(PLUGIN_LOG) == "Please install"
    assert read_reason("ImportError: libcuda.so.1: cannot open\n") == "libcuda.so.1: cannot open"
    assert read_reason("") == "it gave no reason"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/x/libcuda.so: undefined symbol", "libcuda.so: undefined symbol"),
        ("cannot load '/opt/a b.so' and /usr/lib/c.so", "cannot load 'a b.so' and c.so"),
        (r"cannot load C:\Users\me\nvinfer_10.dll", "cannot load nvinfer_10.dll"),
        ("see https://onnxruntime.ai/docs/a.html", "see https://onnxruntime.ai/docs/a.html"),
        ("CUDA 12.4 and/or cuDNN 9", "CUDA 12.4 and/or cuDNN 9"),
    ],
)
def test_paths_lose_their_folders(text, shown):
    assert hide_folders(text) == shown


def test_a_home_with_a_space_in_its_name_is_hidden(monkeypatch):
    monkeypatch.setenv("HOME", "/home/Jane Doe")

    assert hide_folders("/home/Jane Doe/venv/x.so: too short") == "x.so: too short"


def test_a_module_that_imports_has_no_problem():
    assert import_problem("json") == ""


def test_a_module_that_does_not_import_says_why(tmp_path, monkeypatch):
    text = f"raise ImportError('{tmp_path}/libbroken.so: file too short')"
    plant("broken_module", text, tmp_path, monkeypatch)

    assert import_problem("broken_module") == "libbroken.so: file too short"
    assert import_problem("no_such_module") == "No module named 'no_such_module'"


def test_a_crash_is_a_problem_not_the_end(tmp_path, monkeypatch):
    plant("crashing", "import os; os.abort()", tmp_path, monkeypatch)

    assert import_problem("crashing") == "it crashes (signal 6)"


def test_a_module_that_hangs_is_given_up(monkeypatch):
    def hang(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(probes.subprocess, "run", hang)

    assert import_problem("json") == "it gives no answer within 60 s"


def test_a_module_of_the_current_folder_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").touch()
    monkeypatch.chdir(tmp_path)

    assert import_problem("only_here") == "No module named 'only_here'"


def test_the_cpu_provider_really_computes():
    pytest.importorskip("onnxruntime")

    providers, problem = try_providers()

    assert problem == ""
    assert Provider("CPUExecutionProvider", "") in providers
    assert "AzureExecutionProvider" not in [provider.name for provider in providers]


def test_a_provider_that_falls_back_or_crashes_does_not_load(tmp_path, monkeypatch):
    plant("onnxruntime", FAKE, tmp_path, monkeypatch)

    providers, problem = try_providers()

    assert problem == ""
    assert {provider.short_name: provider.problem for provider in providers} == {
        "CUDA": "ONNX Runtime gave CPUExecutionProvider instead",
        "Broken": "it crashes (signal 6)",
        "CPU": "",
    }


def test_a_broken_onnxruntime_is_one_problem(tmp_path, monkeypatch):
    plant("onnxruntime", "", tmp_path, monkeypatch)  # what an uninstalled double leaves

    assert try_providers() == (
        (),
        "module 'onnxruntime' has no attribute 'get_available_providers'",
    )
