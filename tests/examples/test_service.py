"""The service: labels as of a direct run, and an answer to everything else that is sent."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient

from segdeploy.errors import SegdeployError
from segdeploy.images import decode_image, encode_png, overlay, read_labels
from segdeploy.segmenter import Segmenter
from segdeploy.spec import ClassSet, Image, Images, Size

PNG = {"Content-Type": "image/png"}
PATIENCE_S = 10.0


@pytest.fixture(scope="module")
def service(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("service")


@pytest.fixture(scope="module")
def client(service: ModuleType, engine_path: Path) -> Iterator[TestClient]:
    with TestClient(service.create_app(str(engine_path), "cpu", sessions=2)) as client:
        yield client


@pytest.fixture(scope="module")
def image(blocks: Callable[..., Images]) -> Image:
    return blocks(Size(100, 140))[0]


def read_answer(content: bytes, folder: Path) -> Any:
    (folder / "labels.png").write_bytes(content)
    return read_labels(folder / "labels.png")


def test_labels_are_those_of_a_direct_run(
    client: TestClient, image: Image, direct: Callable[..., Any], tmp_path: Path
) -> None:
    answer = client.post("/segment", content=encode_png(image), headers=PNG)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/png"
    np.testing.assert_array_equal(read_answer(answer.content, tmp_path), direct(image))


def test_the_overlay_is_the_painted_image(
    client: TestClient, image: Image, direct: Callable[..., Any]
) -> None:
    answer = client.post("/segment?overlay=true", content=encode_png(image), headers=PNG)

    np.testing.assert_array_equal(
        decode_image(answer.content, "answer"),
        overlay(image, direct(image), ClassSet.numbered(7)),
    )


def test_many_callers_get_their_own_labels(
    client: TestClient, blocks: Callable[..., Images], direct: Callable[..., Any], tmp_path: Path
) -> None:
    images = blocks(Size(64, 96), count=8)

    def post(image: Image) -> bytes:
        return client.post("/segment", content=encode_png(image), headers=PNG).content

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(post, images))

    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(read_answer(answer, tmp_path), direct(image))


def test_health_says_what_is_open(client: TestClient) -> None:
    answer = client.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "model": "narrow-fcn",
        "device": "cpu",
        "classes": [f"class {k}" for k in range(7)],
        "sessions": 2,
    }


@pytest.mark.parametrize(
    ("body", "kind", "code", "problem"),
    [
        (b"no image", "image/png", 400, "the body: not an image, or a damaged one (8 bytes)"),
        (b"", "image/png", 400, "the body: is empty"),
        (b"{}", "application/json", 415, "Content-Type is application/json; wanted image/png"),
        (bytes(2**24 + 1), "image/png", 413, "the body has more than 16777216 bytes"),
    ],
    ids=["text", "nothing", "another type", "too long"],
)
def test_what_is_no_image_is_refused(
    client: TestClient, body: bytes, kind: str, code: int, problem: str
) -> None:
    answer = client.post("/segment", content=body, headers={"Content-Type": kind})

    assert answer.status_code == code
    assert answer.json()["detail"].startswith(problem)


def test_half_an_image_is_refused(client: TestClient, image: Image) -> None:
    whole = encode_png(image)

    answer = client.post("/segment", content=whole[: len(whole) // 2], headers=PNG)

    assert answer.status_code == 400
    assert "not an image, or a damaged one" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("size", "code", "problem"),
    [
        ((6000, 6000), 413, "is an image of 6000x6000; wanted up to 33554432 pixels"),
        ((20, 400), 400, "the image is 20x400; wanted 32 pixels a side"),
    ],
    ids=["a bomb", "a ribbon"],
)
def test_an_image_of_another_order_of_size_is_refused(
    client: TestClient, size: tuple[int, int], code: int, problem: str
) -> None:
    answer = client.post("/segment", content=encode_png(np.zeros(size, np.uint8)), headers=PNG)

    assert answer.status_code == code
    assert problem in answer.json()["detail"]


def test_one_request_too_many_is_refused_while_others_wait(
    service: ModuleType,
    engine_path: Path,
    image: Image,
    direct: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    gate, segment = threading.Event(), Segmenter.segment

    def blocked(self: Segmenter, image: Image) -> Any:
        assert gate.wait(PATIENCE_S)
        return segment(self, image)

    monkeypatch.setattr(Segmenter, "segment", blocked)
    app = service.create_app(str(engine_path), sessions=1, limits=service.Limits(requests=2))

    with TestClient(app) as client, ThreadPoolExecutor(2) as threads:

        def post(_: int = 0) -> Any:
            return client.post("/segment", content=encode_png(image), headers=PNG)

        waiting = [threads.submit(post) for _ in range(2)]
        deadline = time.monotonic() + PATIENCE_S
        while app.state.service.free and time.monotonic() < deadline:
            time.sleep(0.01)
        refused, health = post(), client.get("/health")
        gate.set()
        answers = [future.result(PATIENCE_S) for future in waiting]
        later = post()

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json() == {"detail": "2 requests are in work"}
    assert health.status_code == 200
    for answer in [*answers, later]:
        assert answer.status_code == 200
        np.testing.assert_array_equal(read_answer(answer.content, tmp_path), direct(image))


def test_the_engine_is_open_between_start_and_end_only(
    service: ModuleType, engine_path: Path, image: Image
) -> None:
    app = service.create_app(str(engine_path))
    outside = TestClient(app)  # not entered: nothing starts

    before = outside.get("/health")
    with TestClient(app) as client:
        segmenter = app.state.service.segmenter
        during = client.get("/health")
    after = outside.post("/segment", content=encode_png(image), headers=PNG)

    assert [answer.status_code for answer in (before, during, after)] == [503, 200, 503]
    assert after.json() == {"detail": "the engine is not open"}
    with pytest.raises(SegdeployError, match="is closed"):
        segmenter.segment(image)


def test_an_engine_that_cannot_be_opened_ends_the_start(service: ModuleType) -> None:
    with (
        pytest.raises(SegdeployError, match="no such file"),
        TestClient(service.create_app("gone.ort")),
    ):
        pass


@pytest.mark.parametrize(
    ("message", "code"),
    [({"type": "http.disconnect"}, 400), (None, 408)],
    ids=["gone", "slow"],
)
def test_a_body_that_does_not_end_gives_its_place_back(
    service: ModuleType, message: dict[str, str] | None, code: int
) -> None:
    async def receive() -> dict[str, str]:
        if message is None:
            await asyncio.sleep(PATIENCE_S)
        return message or {}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)

    with pytest.raises(HTTPException) as caught:
        asyncio.run(service.read_body(request, service.Limits(upload_s=0.05)))

    assert caught.value.status_code == code


def test_the_program_serves_what_it_was_told_to(
    start: Callable[..., Any], engine_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("uvicorn.run", lambda app, **where: served.append((app, where)))

    ended = start("service", "--artifact", engine_path, "--port", 9000, "--sessions", 3)

    ((app, where),) = served
    assert ended == (0, "", "")
    assert where == {"host": "127.0.0.1", "port": 9000}
    with TestClient(app) as client:
        assert client.get("/health").json()["sessions"] == 3
