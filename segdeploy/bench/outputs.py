"""Where a result goes: looked at before anything is measured, kept row by row, written whole."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from segdeploy.artifacts import writing
from segdeploy.errors import SegdeployError, needs
from segdeploy.html.pictures import Picture, write_pictures
from segdeploy.report import Report
from segdeploy.report_page import markdown_page


def _ignore(_report: Report) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a result goes, and what it says of itself.

    Args:
        json_path: of the rows.
        report_path: of the page in Markdown.
        html_path: of the page with plots.
        lock_path: of what re-creates the result of a suite.
        command: repeats the run.
        created: ISO date.
        show: gets the rows before anything is written of them, and what there is after an error.
    """

    json_path: Path | None = None
    report_path: Path | None = None
    html_path: Path | None = None
    lock_path: Path | None = None
    command: str = ""
    created: str = ""
    show: Callable[[Report], None] = _ignore

    @property
    def has_pages(self) -> bool:
        """Whether pictures are of use."""
        return self.report_path is not None or self.html_path is not None

    @property
    def rows_so_far(self) -> Path | None:
        """Where rows are kept until the last of them is there; an older result stays till then."""
        return None if self.json_path is None else self.json_path.with_suffix(".part.json")


def check_outputs(outputs: Outputs) -> None:
    """Refuse what cannot be written, before anything is measured; leaves nothing behind."""
    if outputs.html_path is not None:
        with needs("matplotlib", "jinja2", extra="report"):
            from segdeploy.html.page import check_name
        check_name(outputs.html_path)
    seen: set[Path] = set()
    for path in _places(outputs):
        _check_writable(path)
        if path.absolute() in seen:
            raise SegdeployError(f"{path}: is named for two outputs", hint="give each its own file")
        seen.add(path.absolute())


def keep_rows(report: Report, outputs: Outputs) -> None:
    """Write the rows so far, whole, so that they outlive whatever happens to the next."""
    if outputs.rows_so_far is not None:
        _write(outputs.rows_so_far, report.to_json())


def write_rows(report: Report, outputs: Outputs) -> None:
    """Write all rows, in the place of those that were kept on the way."""
    if outputs.json_path is not None and outputs.rows_so_far is not None:
        _write(outputs.json_path, report.to_json())
        outputs.rows_so_far.unlink(missing_ok=True)


def write_pages(report: Report, pictures: tuple[Picture, ...], outputs: Outputs) -> None:
    """Write the pages that are asked for."""
    if (page := outputs.report_path) is not None:
        paths = write_pictures(pictures, page.parent / f"{page.stem}-pictures")
        beside = [path.relative_to(page.parent).as_posix() for path in paths]
        _write(page, markdown_page(report, beside))
    if outputs.html_path is not None:
        from segdeploy.html.page import write_page

        write_page(report, outputs.html_path, pictures)


def _places(outputs: Outputs) -> Iterator[Path]:
    for path in (outputs.json_path, outputs.report_path, outputs.html_path, outputs.lock_path):
        if path is not None:
            yield path


def _check_writable(path: Path) -> None:
    """Try it in the nearest folder that exists: permissions alone do not tell."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        with TemporaryDirectory(prefix=".part-", dir=folder):
            pass
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be written ({error.strerror})") from error


def _write(path: Path, text: str) -> None:
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
