"""A server of one file that breaks off, changes the file, or sends elsewhere."""

from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

BODY = bytes(range(256)) * 4000  # 1.02 MB: several chunks
NEW_BODY = BODY[::-1]


@dataclass
class Site:
    """What the server has, how it misbehaves, and what it was asked."""

    body: bytes = BODY
    etag: str = '"one"'
    last_modified: str = ""
    cut_after: int | None = None  # bytes of each answer, then the connection closes
    cuts_left: int = 1000
    ignores_if_range: bool = False
    announces_length: bool = True
    announced_length: int | None = None
    location: str = ""
    url: str = ""
    ranges: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.ranges.append(wanted)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", site.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path != "/model.pth":
            self.send_error(404)
            return
        same = self.headers.get("If-Range") in (site.etag, site.last_modified)
        start = 0
        if wanted and (same or site.ignores_if_range):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(site.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            total = len(site.body)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if site.etag:
            self.send_header("ETag", site.etag)
        if site.last_modified:
            self.send_header("Last-Modified", site.last_modified)
        if site.announces_length:
            length = site.announced_length or len(site.body) - start
            self.send_header("Content-Length", str(length))
        self.end_headers()
        rest = site.body[start:]
        if site.cut_after is not None and site.cuts_left > 0:
            site.cuts_left -= 1
            rest = rest[: site.cut_after]
        with suppress(ConnectionError):  # the client may refuse what it was announced
            self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""
