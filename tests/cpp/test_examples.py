"""The examples in C++: they label what Python labels, and end as a service should."""

import http.client
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from c_library import ONNXRUNTIME
from cpp_build import ROOT, SIZE, lacks, run

import segdeploy

pytestmark = pytest.mark.xdist_group("cpp")


def test_the_minimal_example_counts_every_pixel(build, engine):
    program = build / "examples" / "minimal"

    lines = run(program, engine.path, ONNXRUNTIME).splitlines()

    counts = {name: int(number) for name, number in (line.rsplit(" ", 1) for line in lines)}
    assert sum(counts.values()) == SIZE.height * SIZE.width
    assert set(counts) <= set(engine.manifest.classes.names)


def test_the_minimal_example_has_twenty_lines():
    code = (ROOT / "cpp" / "examples" / "minimal.cpp").read_text().splitlines()

    assert len([line for line in code if line.strip() and not line.startswith("//")]) <= 22


COUNTS = re.compile(r"read (\d+), labelled (\d+), dropped (\d+), failed (\d+)")


def test_the_camera_service_loses_no_frame_unseen(build, engine):
    program = build / "examples" / "camera_service"

    counts = COUNTS.fullmatch(run(program, engine.path, ONNXRUNTIME, "60").strip())

    assert counts is not None
    read, labelled, dropped, failed = map(int, counts.groups())
    assert (read, failed) == (60, 0)
    assert labelled + dropped == read
    assert labelled > 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_camera_service_stops_gracefully(sign, build, engine):
    program = build / "examples" / "camera_service"
    service = subprocess.Popen([program, engine.path, ONNXRUNTIME], stdout=subprocess.PIPE)
    while service.poll() is None and not catches(service.pid, sign):
        time.sleep(0.01)
    time.sleep(0.2)  # for some frames

    service.send_signal(sign)
    said = service.communicate(timeout=20)[0].decode()

    assert service.returncode == 0
    counts = COUNTS.fullmatch(said.strip())
    assert counts is not None
    read, labelled, dropped, failed = map(int, counts.groups())
    assert (labelled + dropped, failed) == (read, 0)  # what was queued is done


def catches(process: int, sign: signal.Signals) -> bool:
    """Whether it has a handler of its own for the signal, which would end it otherwise."""
    return has_in("SigCgt", process, sign)


def holds_back(process: int, sign: signal.Signals) -> bool:
    """Whether the signal waits until somebody asks for it."""
    return has_in("SigBlk", process, sign)


def has_in(mask: str, process: int, sign: signal.Signals) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{mask}:\s*(\w+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (sign - 1) & 1)


def test_a_camera_that_fails_ends_the_service_in_order(build, engine, tmp_path):
    """The camera is where readers put their own; here it throws after some frames."""
    source = (ROOT / "cpp" / "examples" / "camera_service.cpp").read_text()
    end = "if (next_ == frames_) return std::nullopt;"
    assert end in source
    (tmp_path / "service.cpp").write_text(
        source.replace(end, 'if (next_ == 3) throw std::runtime_error("camera: unplugged");')
    )
    run(
        "c++", "-std=c++17", "-pthread", tmp_path / "service.cpp", "-o", tmp_path / "service",
        f"-I{ROOT}/cpp/include", f"-L{build}", "-lsegdeploy", f"-Wl,-rpath,{build}",
    )  # fmt: skip

    done = subprocess.run(
        [tmp_path / "service", engine.path, ONNXRUNTIME], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (1, "error: camera: unplugged\n")


@pytest.fixture
def http_service(build, engine):
    """Called with a port: the service, started, and what it says on stderr."""
    program = build / "examples" / "http_service"
    if not program.is_file():
        lacks("httplib", "needs cpp-httplib")
    started = []

    def start(port):
        command = [program, engine.path, ONNXRUNTIME, str(port)]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for service in started:
        service.kill()
        service.communicate()


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_http_service_labels_what_is_posted(http_service, port, engine, blocks):
    image = blocks(SIZE)[0]
    service = http_service(port)

    assert answer(port, "GET", "/health", b"", tries=100) == (200, b"ready\n")
    labels = answer(port, "POST", "/segment", image.tobytes())
    wrong = answer(port, "POST", "/segment", b"short")
    service.send_signal(signal.SIGTERM)

    assert service.wait(timeout=20) == 0
    with segdeploy.open(engine.path) as opened, opened.session() as session:
        assert labels == (200, session.run(image[None]).tobytes())
    assert wrong == (400, b"wanted 18432 bytes of RGB\n")


def test_two_http_services_do_not_share_a_port(http_service, port):
    first = http_service(port)
    answer(port, "GET", "/health", b"", tries=100)

    second = http_service(port)

    said = second.communicate(timeout=20)[1]
    assert (second.returncode, said) == (1, f"error: port {port} cannot be listened to\n")
    assert answer(port, "GET", "/health", b"") == (200, b"ready\n")
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=20) == 0
    again = http_service(port)  # which is free at once, whoever was connected
    assert answer(port, "GET", "/health", b"", tries=100) == (200, b"ready\n")
    again.send_signal(signal.SIGINT)
    assert again.wait(timeout=20) == 0


def test_a_signal_before_the_http_service_listens_stops_it(http_service, port):
    service = http_service(port)
    while service.poll() is None and not holds_back(service.pid, signal.SIGTERM):
        time.sleep(0.001)

    service.send_signal(signal.SIGTERM)

    assert service.communicate(timeout=20)[1] == ""
    assert service.returncode == 0


@pytest.mark.parametrize("wrong", ["0", "65536", "http", "80x", "", "-1"])
def test_a_port_is_a_number(wrong, http_service):
    service = http_service(wrong)

    said = service.communicate(timeout=20)[1]

    assert (service.returncode, said) == (1, f"error: port {wrong}; wanted 1 to 65535\n")


def answer(port, method, path, body, tries=1):
    """Status and body; a service that is starting is asked again."""
    for left in reversed(range(tries)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError:
            if not left:
                raise
            time.sleep(0.05)
        finally:
            connection.close()
    return None
