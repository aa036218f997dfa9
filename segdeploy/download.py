"""Fetch one file over HTTP: resumed where it broke off, checked, and whole or not there at all."""

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

from segdeploy.artifacts import sha256_of
from segdeploy.errors import SegdeployError
from segdeploy.progress import progress_bar

MAX_BYTES = 2 << 30  # twenty times the largest checkpoint of the reference table
TIMEOUT_SECONDS = 30.0  # without a single byte
ATTEMPTS = 4
BACKOFF_SECONDS = 1.0  # before the second attempt, doubled before each further one
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class DownloadResult:
    """A complete file; `warning` says in what way it is not the one that was announced."""

    path: Path
    sha256: str
    warning: str = ""


@dataclass(frozen=True)
class _Validator:
    """What names the version of a remote file, so that a resumed half fits the first one."""

    url: str
    etag: str = ""
    last_modified: str = ""

    @classmethod
    def of(cls, url: str, headers: Message) -> Self:
        etag = headers.get("ETag", "")
        strong = (
            "" if etag.startswith("W/") else etag
        )  # RFC 9110 13.1.5: If-Range takes no weak one
        return cls(url, strong, headers.get("Last-Modified", ""))

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what was kept beside a part file; None when nothing usable is there."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(values["url"]), str(values["etag"]), str(values["last_modified"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None  # without it the download starts again from the first byte, which is right

    @property
    def if_range(self) -> str:
        """The value of the header; "" if the server gave nothing to compare."""
        return self.etag or self.last_modified

    def contradicts(self, other: Self) -> bool:
        """Whether both say something, and not the same."""
        if self.etag and other.etag:
            return self.etag != other.etag
        both = bool(self.last_modified and other.last_modified)
        return both and self.last_modified != other.last_modified


class _ConnectionLostError(Exception):
    """Worth another attempt; the part file stays."""


class _RestartError(Exception):
    """The part file is not the beginning of what the server has now."""


def download(url: str, target: Path, *, sha256_prefix: str = "") -> DownloadResult:
    """Fetch `url` into `target`; a complete `target` is hashed and left as it is.

    The bytes go to `TARGET.part` beside it. A later call resumes there, provided that the server
    still has the same version (ETag or Last-Modified); otherwise it starts again.

    Args:
        url: http or https; redirects must stay there, and never leave https.
        target: where the file goes; its folder is made.
        sha256_prefix: the first digits of the sha256. Another hash is a warning, not an error:
            mmseg's files since July 2023 do not match the digits in their own names.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SegdeployError(f"{url}: wanted an address that begins with https:// or http://")
    if target.is_file():
        return _result(target, sha256_prefix)
    if target.exists():
        raise SegdeployError(f"{target}: is not a file", hint="name a file to write")
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_with_retries(url, part)
        part.replace(target)
        _validator_path(part).unlink(missing_ok=True)
    except OSError as error:
        raise SegdeployError(
            f"{target}: cannot be written ({error.strerror or error})",
            hint="check the free space and the permissions of its folder",
        ) from error
    return _result(target, sha256_prefix)


def _result(path: Path, sha256_prefix: str) -> DownloadResult:
    sha256 = sha256_of(path)
    if sha256.startswith(sha256_prefix.lower()):
        return DownloadResult(path, sha256)
    wanted, found = sha256_prefix.lower(), sha256[: len(sha256_prefix)]
    warning = f"{path.name}: sha256 begins with {found}, announced was {wanted}"
    return DownloadResult(path, sha256, warning)


def _fetch_with_retries(url: str, part: Path) -> None:
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
        try:
            _fetch(url, part)
            return
        except _ConnectionLostError as error:
            reason = str(error)
        except _RestartError as error:
            reason = str(error)
            part.unlink(missing_ok=True)
    kept = part.stat().st_size if part.exists() else 0
    raise SegdeployError(
        f"{url}: {reason}; gave up after {ATTEMPTS} attempts",
        hint=f"run it again: it goes on after the {kept} bytes in {part.name}"
        if kept
        else "check the address and the network, or fetch the file by other means",
    )


def _fetch(url: str, part: Path) -> None:
    """One attempt; returns when `part` holds the whole file."""
    validator = _Validator.load(_validator_path(part))
    resumable = part.exists() and validator is not None and validator.url == url
    if validator is None or not resumable or not validator.if_range:
        part.unlink(missing_ok=True)
        validator = _Validator(url)
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "segdeploy", "Accept-Encoding": "identity"}
    if done:
        headers |= {"Range": f"bytes={done}-", "If-Range": validator.if_range}
    try:
        response = _open(url, headers)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and done:
                _check_complete(error.headers, done)
                return
            raise _refused(url, error) from error
    with response:
        total = _total(url, response, validator, done)
        if response.status == HTTPStatus.OK:  # from the first byte, whatever was asked for
            done = 0
            part.unlink(missing_ok=True)
            text = json.dumps(asdict(_Validator.of(url, response.headers)))
            _validator_path(part).write_text(text, encoding="utf-8")
        _append(url, response, part, done, total)


def _validator_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _check_complete(headers: Message, done: int) -> None:
    """After 416: the part is the whole file if the server says that it has just as many bytes."""
    match = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", ""))
    if match is None or int(match[1]) != done:
        raise _RestartError(f"the server has nothing after the {done} bytes that are here")


def _total(
    url: str, response: http.client.HTTPResponse, validator: _Validator, done: int
) -> int | None:
    """Bytes of the whole file as the response announces them; None if it does not."""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        content_range = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content_range)
        if match is None or int(match[1]) != done:
            raise _RestartError(f"asked for bytes from {done}, the server sent {content_range!r}")
        if validator.contradicts(_Validator.of(url, response.headers)):  # it ignored If-Range
            raise _RestartError("the file on the server changed meanwhile")
        total = int(match[2])
    elif response.status == HTTPStatus.OK:
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            return None
        total = int(length)
    else:
        raise SegdeployError(f"{url}: the server answered {response.status}; wanted 200")
    if total > MAX_BYTES:
        raise _too_large(url, total)
    return total


def _append(
    url: str, response: http.client.HTTPResponse, part: Path, done: int, total: int | None
) -> None:
    megabytes = None if total is None else total / 1e6
    with part.open("ab") as file, progress_bar(f"{_name(url)} (MB)", megabytes) as advance:
        advance(done / 1e6)
        for chunk in _chunks(response):
            file.write(chunk)
            done += len(chunk)
            advance(len(chunk) / 1e6)
            if done > MAX_BYTES:
                break
    if done > MAX_BYTES:
        part.unlink()
        raise _too_large(url, done)
    if done == 0 and not total:
        raise SegdeployError(f"{url}: the server sent an empty file", hint="check the address")
    if total is not None and done < total:
        raise _ConnectionLostError(f"the connection ended after {done} of {total} bytes")
    if total is not None and done > total:
        raise _RestartError(f"{done} bytes came, the server announced {total}")


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:  # a reset, a timeout, a broken chunk
            raise _ConnectionLostError(f"the connection broke ({_words(error)})") from error
        if not chunk:
            return
        yield chunk


def _name(url: str) -> str:
    return urlsplit(url).path.rpartition("/")[2]


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to http(s) only, and from https to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()  # build_opener would add file://, ftp:// and data:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpOnly(),
    ):
        opener.add_handler(handler)
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        raise
    except (http.client.InvalidURL, UnicodeError) as error:
        raise SegdeployError(
            f"{url}: is not a valid address ({error})", hint="percent-encode blanks and umlauts"
        ) from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise SegdeployError(
                f"{url}: its certificate cannot be verified ({reason.verify_message})",
                hint="check the clock and the CA certificates (SSL_CERT_FILE) of this machine",
            ) from error
        raise _ConnectionLostError(f"no connection ({_words(reason)})") from error
    assert isinstance(response, http.client.HTTPResponse)
    return response


def _refused(url: str, error: urllib.error.HTTPError) -> SegdeployError:
    if error.code in (301, 302, 303, 307, 308):
        location = error.headers.get("Location", "nowhere")
        return SegdeployError(
            f"{url}: redirects to {location}, which is not followed",
            hint="find out where the file is now, and use that https:// address",
        )
    hints = {
        401: "the file needs a login: fetch it with a browser",
        403: "the file needs a login: fetch it with a browser",
        404: "the file has moved or never was there: check the address",
        410: "the file was withdrawn: look for a mirror",
    }
    hint = hints.get(error.code, "the server has a problem: try again later")
    return SegdeployError(f"{url}: the server answered {error.code} {error.reason}", hint=hint)


def _too_large(url: str, size: int) -> SegdeployError:
    return SegdeployError(
        f"{url}: has {size} bytes; wanted at most {MAX_BYTES}",
        hint="this is no checkpoint: check the address",
    )


def _words(error: object) -> str:
    return str(error) or type(error).__name__
