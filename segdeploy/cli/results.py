"""What is done with results that `segdeploy bench --json` wrote: show one, compare two."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segdeploy.artifacts import writing
from segdeploy.cli import printing
from segdeploy.cli.options import Json
from segdeploy.errors import SegdeployError, needs

if TYPE_CHECKING:
    from segdeploy.changes.conditions import Condition

Result = Annotated[Path, typer.Argument(metavar="F.json", help="What bench --json wrote.")]


def bench_show(
    result: Result,
    html: Annotated[
        Path | None, typer.Option(metavar="F.html", help="Write the page with plots.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="F.md", help="Write the page.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of --html: the pictures that bench --report wrote."),
    ] = None,
) -> None:
    """Show a result again, on the terminal or as a page; nothing is measured."""
    if pictures is not None and html is None:
        raise typer.BadParameter("--pictures goes with --html")
    from segdeploy.report import Report
    from segdeploy.report_page import markdown_page, terminal_table

    made = Report.load(result)
    if html is not None:
        with needs("matplotlib", "jinja2", extra="report"):
            from segdeploy.html.page import write_page
        from segdeploy.html.pictures import read_pictures

        write_page(made, html, read_pictures(pictures, made) if pictures else ())
    if report is not None:
        with writing(report) as temporary:
            temporary.write_text(markdown_page(made), encoding="utf-8")
    printing.show_table(terminal_table(made))


def bench_compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The result before.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The result after.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANGE", help="Exit 1, such as p99_ms>+5%; can be repeated."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Of --fail-if: also where rows are missing in B."),
    ] = False,
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Also where the environments differ.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it as Markdown for GitHub.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what changed between two results, and whether their samples can show it."""
    if markdown and json:
        raise typer.BadParameter("--markdown and --json exclude each other")
    from segdeploy.changes import page
    from segdeploy.changes.conditions import check
    from segdeploy.changes.pairs import find_changes
    from segdeploy.report import Report

    if allow_missing and not fail_if:
        raise typer.BadParameter("--allow-missing goes with --fail-if")
    conditions = [_parse(text) for text in fail_if or ()]
    changes = find_changes(Report.load(before), Report.load(after), across_machines=across_machines)
    broken = check(changes, conditions, allow_missing=allow_missing)
    if json:
        printing.show_json(page.to_json(changes, broken))
    elif markdown:
        print(page.markdown(changes, broken, (before.name, after.name)), end="")
    else:
        printing.show_table(page.terminal_table(changes))
        print("\n".join([page.LEGEND, *page.notes(changes), changes.headline]))
    for one in broken:
        printing.note(page.sentence(one))
    if any(one.holds for one in broken):
        raise typer.Exit(1)


def _parse(text: str) -> "Condition":
    from segdeploy.changes.conditions import parse_condition

    try:
        return parse_condition(text)
    except SegdeployError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise typer.BadParameter(f"--fail-if {error.problem}{hint}") from error
