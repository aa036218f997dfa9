"""The documents say what the code does."""

import json
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import typer

from segdeploy.artifacts import Manifest, sha256_of
from segdeploy.cli import app
from segdeploy.recipes import load_model, load_targets

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FOLDERS = ("docs", "models", "calibration", "benchmarks", "examples")
PAGES = sorted([*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))])
CLI = typer.main.get_command(app)


def examples(page: Path) -> list[str]:
    """The command lines in the code blocks of a page, without what follows a pipe or a comment."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    lines = re.findall(r'^(?:    |\$ )(segdeploy \w(?:"[^"\n]*"|[^\n|>"])+)', text, re.MULTILINE)
    return [line.strip() for line in lines]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def table(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its header."""
    below = page.read_text().partition(f"\n{heading}\n")[2].splitlines()
    start = next(k for k, line in enumerate(below) if line.startswith("|"))
    stop = next(k for k, line in enumerate(below[start:], start) if not line.startswith("|"))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in below[start + 2 : stop]]


@pytest.mark.parametrize("command", CLI.commands)
def test_every_command_is_shown_in_the_readme(command):
    shown = examples(ROOT / "README.md")

    assert any(f"{line} ".startswith(f"segdeploy {command} ") for line in shown)


@pytest.mark.parametrize(
    ("page", "line"),
    [(page, line) for page in PAGES for line in examples(page)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_every_example_is_understood(page, line):
    _, *words = shlex.split(line, comments=True)

    name, command, arguments = CLI.resolve_command(CLI.make_context("segdeploy", words), words)
    context = command.make_context(name, arguments)  # a wrong option raises here

    assert context.info_name == name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text())

    missing = [
        f"{path}#{anchor}"
        for path, anchor in links
        if not (page.parent / path).exists()
        or (anchor and anchor not in anchors(page.parent / path if path else page))
    ]

    assert missing == []


def test_the_floors_are_those_that_the_linter_checks():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in contract["contracts"] if c["type"] == "layers")["layers"]

    rows = table(ROOT / "docs" / "architecture.md", "## Floors")

    assert [int(number) for number, _ in rows] == list(reversed(range(len(layers))))
    assert [re.findall(r"`(\w+)`", modules) for _, modules in rows] == [
        [module.strip() for module in layer.split("|")] for layer in layers
    ]


def test_the_readme_quotes_the_reference_as_it_is():
    targets = load_targets()

    rows = table(ROOT / "README.md", "## Models")
    quoted = {row[0].strip("`"): row[1:] for row in rows if row[0].strip("`") in targets}

    assert quoted == {
        name: [
            load_model(name).method.display_name,
            f"{target.miou:.2f}",
            f"{target.fps:.1f}",
            target.device,
            target.resolution,
        ]
        for name, target in targets.items()
    }


def test_the_manifest_page_lists_every_key():
    rows = table(ROOT / "docs" / "manifest.md", "## Keys")

    assert [row[0].strip("`") for row in rows] == [field.name for field in fields(Manifest)]


def test_the_demo_table_is_the_committed_result():
    result = json.loads((ROOT / "benchmarks" / "results" / "demo-cpu.json").read_text())["rows"]
    names = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}

    shown = [
        line for line in README.splitlines() if re.match(r"\| (PyTorch|ONNX Runtime) \|", line)
    ]

    wanted = []
    for row in result:
        read = row["derived"]
        times = read["boundaries"]["mmseg"]
        wanted.append(
            f"| {names[row['runtime']]} | {row['precision']} | {read['miou']:.2f} "
            f"| {read['fps']:.1f} | {read['speedup']:.2f} | {times['p50_ms']:.1f} "
            f"| {times['p99_ms']:.1f} | {megabytes(row)} |"
        )
    assert shown == wanted


def test_the_demo_checkpoint_is_the_measured_one():
    result = json.loads((ROOT / "benchmarks" / "results" / "demo-cpu.json").read_text())["rows"]

    assert sha256_of(load_model("demo").checkpoint) == result[0]["artifact_sha256"]
    assert (
        min(row["derived"]["miou"] for row in result) >= 75
    )  # below that, a loss in int8 would not show


def megabytes(row):
    return "-" if row["artifact_bytes"] is None else f"{row['artifact_bytes'] / 1e6:.1f}"
