"""A FastAPI service: an image in, a PNG of class ids out.

    pip install 'segdeploy[default,service]'
    python examples/service.py --artifact artifacts/demo/int8.onnxruntime.ort --port 8000
    curl localhost:8000/segment -H 'Content-Type: image/png' --data-binary @street.png -o labels.png
    curl localhost:8000/health

`/segment?overlay=true` answers with the painted image. More than `Limits` allows is refused.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from segdeploy.errors import BusyError, OversizeError, SegdeployError
from segdeploy.images import decode_image, encode_png
from segdeploy.pipeline.segment import Opening
from segdeploy.segmenter import Segmenter
from segdeploy.spec import MIN_SIDE, Device, Size


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may cost, and how many there may be.

    Args:
        requests: that are sent, wait or are computed at the same time; one more is refused.
        body_bytes: of an image as it is sent.
        pixels: of an image once it is decoded.
        upload_s: from the first byte of an image to its last.
    """

    requests: int = 8
    body_bytes: int = 2**24
    pixels: int = 2**25  # a frame of 8K video has 33 million
    upload_s: float = 30.0


USUAL = Limits()


class Service:
    """An open engine, the threads that use it, and how many more requests it takes."""

    def __init__(self, segmenter: Segmenter, threads: ThreadPoolExecutor, limits: Limits) -> None:
        self.segmenter, self.threads, self.limits = segmenter, threads, limits
        self.free = limits.requests

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places. Only the event loop counts them, so there is no lock."""
        if self.free == 0:
            raise BusyError(f"{self.limits.requests} requests are in work", hint="try again later")
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body, if it is short enough and comes in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(limits.upload_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes:
                    raise HTTPException(413, f"the body has more than {limits.body_bytes} bytes")
    except TimeoutError:
        raise HTTPException(408, f"the body took more than {limits.upload_s} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended too early") from None
    return bytes(body)


def label(segmenter: Segmenter, body: bytes, limits: Limits, *, overlay: bool) -> bytes:
    """Decode, segment and encode: in a thread, since the event loop would stand still."""
    try:
        image = decode_image(body, "the body", max_pixels=limits.pixels)
    except OversizeError as error:
        raise HTTPException(413, error.problem) from error
    except SegdeployError as error:
        raise HTTPException(400, error.problem) from error
    if min(image.shape[:2]) < MIN_SIDE:
        raise HTTPException(
            400, f"the image is {Size(*image.shape[:2])}; wanted {MIN_SIDE} pixels a side"
        )
    labels = segmenter.segment(image)
    return encode_png(segmenter.paint(image, labels) if overlay else labels)


def create_app(
    artifact: str, device: str | None = None, sessions: int = 2, limits: Limits = USUAL
) -> FastAPI:
    """The service of one engine, with a thread for each of its sessions."""
    opening = Opening(device=None if device is None else Device(device))

    # The engine is opened here, in the worker, and never when this file is imported: CUDA does not
    # survive a fork, and gunicorn --preload forks after the import. Each worker process opens an
    # engine of its own; on a GPU take more sessions rather than more workers.
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with (
            Segmenter.open(artifact, opening, sessions=sessions) as segmenter,
            ThreadPoolExecutor(sessions, "segment") as threads,  # ends first
        ):
            app.state.service = Service(segmenter, threads, limits)
            yield
            app.state.service = None

    app = FastAPI(title="segdeploy", lifespan=lifespan)
    app.state.service = None

    async def opened() -> Service:
        service: Service | None = app.state.service
        if service is None:
            raise HTTPException(503, "the engine is not open")
        return service

    @app.get("/health")
    async def health(service: Annotated[Service, Depends(opened)]) -> dict[str, object]:
        """What is open."""
        return {
            "model": service.segmenter.manifest.model,
            "device": service.segmenter.device,
            "classes": service.segmenter.classes.names,
            "sessions": sessions,
        }

    @app.post("/segment", response_class=Response, responses={200: {"content": {"image/png": {}}}})
    async def segment(
        request: Request, service: Annotated[Service, Depends(opened)], *, overlay: bool = False
    ) -> Response:
        """A PNG, JPEG, WebP or BMP as the body -> a PNG of class ids, or the painted image."""
        kind = request.headers.get("content-type", "none")
        if not kind.startswith("image/"):
            raise HTTPException(415, f"Content-Type is {kind}; wanted image/png or another image")
        with service.place():
            body = await read_body(request, limits)
            work = partial(label, service.segmenter, body, limits, overlay=overlay)
            png = await asyncio.get_running_loop().run_in_executor(service.threads, work)
        return Response(png, media_type="image/png")

    @app.exception_handler(BusyError)
    async def refuse(_: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"detail": error.problem}, 503, {"Retry-After": "1"})

    return app


def main() -> None:
    """Read the command line, serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a segmentation model over HTTP.")
    parser.add_argument("--artifact", required=True, help="a .onnx, .ort or .plan file, or a model")
    parser.add_argument("--device", type=Device, help="cpu or cuda:N (default: the artifact's)")
    parser.add_argument("--sessions", type=int, default=2, help="images at the same time")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()

    app = create_app(args.artifact, args.device, args.sessions)
    # Tried before, because a lifespan that fails ends in a traceback.
    Segmenter.open(args.artifact, Opening(device=args.device)).close()
    uvicorn.run(app, host=args.host, port=args.port)


if __name__ == "__main__":
    try:
        main()
    except SegdeployError as error:  # a user can put it right: two lines say how
        sys.exit(error.to_lines())
