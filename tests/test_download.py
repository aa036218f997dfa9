"""Downloads from a server on this machine that breaks off, changes its file, or sends elsewhere."""

import hashlib
import io
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from unsteady_server import BODY, NEW_BODY, Handler, Site

from segdeploy import download as module
from segdeploy.download import download
from segdeploy.errors import SegdeployError


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/model.pth"
        yield site
        server.shutdown()
        thread.join()


def break_off(site: Site, target: Path, after: int = 300_000) -> None:
    """Leave a part file of `after` bytes, as a call that lost its connection does."""
    site.cut_after, attempts = after, module.ATTEMPTS
    module.ATTEMPTS = 1
    try:
        with pytest.raises(SegdeployError, match="the connection ended after"):
            download(site.url, target)
    finally:
        module.ATTEMPTS = attempts
        site.cut_after = None
    assert part_of(target).stat().st_size == after
    site.ranges.clear()


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_file_arrives_whole_and_leaves_nothing_beside_it(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "model.pth"

    result = download(site.url, target, sha256_prefix=hashlib.sha256(BODY).hexdigest()[:8].upper())

    assert target.read_bytes() == BODY
    assert result.path == target
    assert result.sha256 == hashlib.sha256(BODY).hexdigest()
    assert result.warning == ""
    assert list(target.parent.iterdir()) == [target]


def test_other_hash_is_a_warning_that_names_both(site: Site, tmp_path: Path) -> None:
    result = download(site.url, tmp_path / "model.pth", sha256_prefix="13fef4ea")

    assert result.path.read_bytes() == BODY
    assert "13fef4ea" in result.warning
    assert hashlib.sha256(BODY).hexdigest()[:8] in result.warning


def test_complete_file_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    target.write_bytes(b"mine")

    result = download(site.url, target)

    assert site.ranges == []
    assert target.read_bytes() == b"mine"
    assert result.sha256 == hashlib.sha256(b"mine").hexdigest()


def test_connection_cut_in_the_middle_is_resumed_in_the_same_call(
    site: Site, tmp_path: Path
) -> None:
    site.cut_after, site.cuts_left = 300_000, 2

    download(site.url, tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == BODY
    assert site.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_later_call_resumes_where_the_earlier_broke_off(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == ["bytes=300000-"]


def test_last_modified_serves_when_the_etag_is_weak(site: Site, tmp_path: Path) -> None:
    site.etag, site.last_modified = 'W/"one"', "Tue, 25 Aug 2020 12:48:17 GMT"
    target = tmp_path / "model.pth"
    break_off(site, target)

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == ["bytes=300000-"]


def test_server_that_names_no_version_is_asked_for_all(site: Site, tmp_path: Path) -> None:
    site.etag = ""
    target = tmp_path / "model.pth"
    break_off(site, target)

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == [None]


def test_file_that_changed_on_the_server_starts_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    site.body, site.etag = NEW_BODY, '"two"'

    download(site.url, target)

    assert target.read_bytes() == NEW_BODY
    assert site.ranges == ["bytes=300000-"]


def test_change_is_noticed_even_if_the_server_ignores_if_range(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    site.body, site.etag, site.ignores_if_range = NEW_BODY, '"two"', True

    download(site.url, target)

    assert target.read_bytes() == NEW_BODY
    assert site.ranges == ["bytes=300000-", None]


def test_part_of_another_address_is_not_continued(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    kept = part_of(target).with_name("model.pth.part.json")
    kept.write_text(kept.read_text().replace("model.pth", "other.pth"))

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == [None]


def test_damaged_notes_beside_a_part_start_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    part_of(target).with_name("model.pth.part.json").write_text("[1, 2")

    download(site.url, target)

    assert target.read_bytes() == BODY


def test_part_that_holds_everything_is_finished(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    part_of(target).write_bytes(BODY)

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == [f"bytes={len(BODY)}-"]


def test_part_that_is_too_long_starts_again(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "model.pth"
    break_off(site, target)
    part_of(target).write_bytes(BODY + b"more")

    download(site.url, target)

    assert target.read_bytes() == BODY
    assert site.ranges == [f"bytes={len(BODY) + 4}-", None]


def test_truncated_file_is_an_error_and_keeps_its_part(site: Site, tmp_path: Path) -> None:
    site.announced_length = len(BODY) + 7
    site.etag = ""
    target = tmp_path / "model.pth"

    with pytest.raises(SegdeployError, match=f"after {len(BODY)} of {len(BODY) + 7} bytes") as info:
        download(site.url, target)

    assert not target.exists()
    assert part_of(target).read_bytes() == BODY
    assert site.url in info.value.problem
    assert "model.pth.part" in info.value.hint
    assert len(site.ranges) == module.ATTEMPTS


def test_server_that_announces_no_length_is_read_to_its_end(site: Site, tmp_path: Path) -> None:
    site.announces_length = False

    download(site.url, tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == BODY


def test_missing_file_is_an_error_without_another_attempt(site: Site, tmp_path: Path) -> None:
    url = site.url.replace("model", "nothing")

    with pytest.raises(SegdeployError, match="404") as info:
        download(url, tmp_path / "model.pth")

    assert url in info.value.problem
    assert info.value.hint
    assert len(site.ranges) == 1
    assert list(tmp_path.iterdir()) == []


def test_redirect_on_the_web_is_followed(site: Site, tmp_path: Path) -> None:
    site.location = "/model.pth"

    download(site.url.replace("model", "moved"), tmp_path / "model.pth")

    assert (tmp_path / "model.pth").read_bytes() == BODY


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_redirect_off_the_web_is_refused(site: Site, tmp_path: Path, scheme: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    site.location = f"{scheme}://{secret}"

    with pytest.raises(SegdeployError, match=f"redirects to {scheme}://"):
        download(site.url.replace("model", "moved"), tmp_path / "model.pth")

    assert list(tmp_path.iterdir()) == [secret]


def test_redirect_never_leaves_https() -> None:
    request = urllib.request.Request("https://host/model.pth")

    with pytest.raises(urllib.error.HTTPError):
        module._HttpOnly().redirect_request(
            request, io.BytesIO(), 302, "Found", HTTPMessage(), "http://host/model.pth"
        )


def test_redirect_in_a_circle_ends(site: Site, tmp_path: Path) -> None:
    site.location = "/moved"

    with pytest.raises(SegdeployError, match="redirects to /moved"):
        download(site.url.replace("model.pth", "moved"), tmp_path / "model.pth")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/model.pth", "model.pth", "https://", ""]
)
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SegdeployError, match="wanted an address"):
        download(url, tmp_path / "model.pth")


def test_huge_file_is_refused_before_it_is_written(site: Site, tmp_path: Path) -> None:
    site.announced_length = 3 << 30

    with pytest.raises(SegdeployError, match=str(3 << 30)):
        download(site.url, tmp_path / "model.pth")

    assert list(tmp_path.iterdir()) == []


def test_huge_file_without_a_length_is_stopped(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 500_000)
    site.announces_length = False

    with pytest.raises(SegdeployError, match="wanted at most 500000"):
        download(site.url, tmp_path / "model.pth")

    assert not part_of(tmp_path / "model.pth").exists()


def test_empty_answer_is_an_error(site: Site, tmp_path: Path) -> None:
    site.body = b""

    with pytest.raises(SegdeployError, match="empty file"):
        download(site.url, tmp_path / "model.pth")

    assert not (tmp_path / "model.pth").exists()


def test_nobody_listening_is_an_error_after_all_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, never listening: a connection is refused
        url = f"http://127.0.0.1:{free.getsockname()[1]}/model.pth"

        with pytest.raises(SegdeployError, match="no connection") as info:
            download(url, tmp_path / "model.pth")

    assert url in info.value.problem
    assert pauses == [1.0, 2.0, 4.0]


def test_server_that_says_nothing_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/model.pth"

        with pytest.raises(SegdeployError, match="timed out"):
            download(url, tmp_path / "model.pth")


def test_target_that_cannot_be_written_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SegdeployError, match=r"file/model\.pth: cannot be written"):
        download(site.url, tmp_path / "file" / "model.pth")


def test_folder_as_target_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SegdeployError, match="is not a file"):
        download(site.url, tmp_path)
