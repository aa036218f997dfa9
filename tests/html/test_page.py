"""The page: what stands on it, and what can never get into it."""

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from measured import INT8, PYTORCH, RANDOM, report, timed

from segdeploy.errors import SegdeployError
from segdeploy.html.page import front_of, html_page, page_of, write_page
from segdeploy.html.pictures import Panel, Picture
from segdeploy.html.view import confused, confusion_shares, per_class, subjects_of
from segdeploy.measurement import Boundary, Tally

VOID = {"meta", "img", "br", "link", "input", "hr"}
KNOWN = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "h1", "h2", "h3", "nav",
    "ul", "ol", "li", "main", "section", "span", "small", "div", "table", "caption", "thead",
    "tbody", "tr", "th", "td", "figure", "figcaption", "code", "pre", "dl", "dt", "dd", "img",
    "details", "summary",
    "svg", "g", "path", "text", "tspan", "defs", "use", "clippath", "rect", "image",
}  # fmt: skip


class Outline(HTMLParser):
    """Elements, attributes and texts of a page; fails where an end tag does not fit."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, {key: value or "" for key, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, {key: value or "" for key, value in attributes}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def outline(whole) -> Outline:
    return Outline(whole)


def test_every_element_is_known_closed_and_named_once(outline) -> None:
    names = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]

    assert outline.open == []
    assert {tag for tag, _ in outline.elements} <= KNOWN
    assert len(names) == len(set(names))


def test_the_page_needs_no_other_file(whole, outline) -> None:
    addresses = [
        value
        for _, attributes in outline.elements
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
    ]
    assert addresses
    assert all(address.startswith(("#", "data:image/")) for address in addresses)
    assert set(re.findall(r"url\((.)", whole)) <= {"#"}
    assert "@import" not in whole
    assert not outline.all("script")


def test_every_link_within_the_page_leads_somewhere(outline) -> None:
    names = {attributes.get("id") for _, attributes in outline.elements}

    links = {
        attributes[key][1:]
        for _, attributes in outline.elements
        for key in ("href", "xlink:href")
        if attributes.get(key, "").startswith("#")
    }

    assert "latency" in links
    assert links <= names


def test_names_from_files_stay_text(hostile, whole) -> None:
    panel = Panel(hostile.command, np.zeros((8, 8, 3), np.uint8))
    page = html_page(hostile, (Picture(hostile.command, (panel,)),))

    outline = Outline(page)
    tags = Counter(tag for tag, _ in outline.elements)
    assert (tags["script"], tags["img"], tags["style"]) == (0, 1, whole.count("<style"))
    assert tags.keys() <= KNOWN
    assert not [
        key for _, attributes in outline.elements for key in attributes if key.startswith("on")
    ]
    assert hostile.command in outline.texts  # shown as it is
    assert "49" not in " ".join(text for text in outline.texts if "alert" in text)


def test_headings_do_not_jump_and_sections_have_names(outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h\d", tag)]
    names = {attributes.get("id") for _, attributes in outline.elements}

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attributes["aria-labelledby"] in names for attributes in outline.all("section"))


def test_whoever_does_not_see_is_told(outline) -> None:
    drawings = outline.all("svg")

    assert drawings
    assert all(attributes["role"] == "img" for attributes in drawings)
    assert all(len(attributes["aria-label"]) > 20 for attributes in drawings)
    assert all(attributes["alt"] for attributes in outline.all("img"))
    assert all("scope" in attributes for attributes in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert outline.all("html") == [{"lang": "en"}]


def test_plots_take_the_colours_of_the_page(whole) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", whole, re.DOTALL))
    assert "var(--series-0)" in drawn
    assert "currentColor" in drawn
    assert "metadata" not in drawn
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#000000"}  # of a default, not drawn


def test_every_row_stands_in_the_summary_beside_its_reference(full) -> None:
    page = page_of(full)

    cells = [[cell.text for cell in row] for row in page.summary.rows]
    slow, fast = (m.fps for m in full.measurements)
    assert [row[2:6] for row in cells] == [
        ["65.00", "+0.00", f"{slow:.2f}", "1.00"],
        ["55.00", "-10.00", f"{fast:.2f}", f"{fast / slow:.2f}"],
    ]  # fmt: skip
    assert [row[1].text for row in page.verdicts.rows] == ["not comparable"] * 2
    assert page.verdicts.rows[0][-1].note == "A100 [1, 2]"
    assert len(page.footnotes) == 2


def test_without_a_reference_the_page_has_none(full) -> None:
    page = html_page(replace(full, targets={}))

    assert 'id="reference"' not in page
    assert "Source:" not in page


def test_an_inconclusive_row_says_why() -> None:
    page = page_of(report(PYTORCH, INT8))

    assert [row[-1].text for row in page.summary.rows] == ["inconclusive"] * 2
    assert page.cards[0].note == "FCN Cityscapes, ONNX Runtime int8: inconclusive"
    assert "too few steps: 3 of 20" in page.trust.rows[0][2].text
    assert page.trust_sentence.startswith("2 of 2 rows are inconclusive")


def test_a_quiet_run_is_said_to_be_stable(full) -> None:
    page = page_of(full)

    assert page.trust_sentence.startswith("Nothing speaks against any row")
    assert {row[1].text for row in page.trust.rows} == {"stable"}
    assert page.trust.rows[0][4].text == "1% of the cores"
    assert page.trust.rows[0][6].text == "1980 MHz, 61 °C, 310.5 W"


def test_boundaries_stand_side_by_side_with_their_parts(full) -> None:
    boundaries = page_of(full).boundaries

    assert boundaries is not None
    assert boundaries.table.header == ("Row", "engine", "host", "mmseg", "e2e")
    assert boundaries.table.rows[1][2].note.endswith(", upload 2.00, compute 2.00, download 2.00")
    assert page_of(report(PYTORCH)).boundaries is None


def test_speed_only_rows_have_no_accuracy() -> None:
    page = html_page(report(RANDOM))

    assert 'id="accuracy"' not in page
    assert "such a row never has an mIoU" in page


def test_the_front_is_what_no_other_beats() -> None:
    assert front_of([(10, 70), (20, 80), (30, 75), (10, 69), (5, 60)]) == (0, 1, 4)
    assert front_of([(10, 70), (10, 70)]) == (0, 1)
    assert front_of([(10, 70), (12, 70)]) == (0,)


def test_confusion_is_by_the_true_class() -> None:
    shares = confusion_shares(PYTORCH)

    np.testing.assert_allclose(shares[:2], [[0.7, 0.2, 0], [0, 1, 0]])
    assert np.isnan(shares[2]).all()  # does not occur
    assert confused(PYTORCH) == ("road taken for car: 20.0%",)


def test_a_class_that_does_not_occur_is_absent_and_has_no_bar() -> None:
    (table,) = per_class(subjects_of(report(PYTORCH, INT8)))

    assert [(cell.text, cell.share) for cell in table.rows[0][1:]] == [("70.0", 0.7), ("60.0", 0.6)]
    assert [(cell.text, cell.share) for cell in table.rows[2][1:]] == [("absent", None)] * 2


def test_rows_of_one_name_are_told_apart() -> None:
    other = replace(INT8, calibration="another set")

    names = [subject.short for subject in subjects_of(report(INT8, other, PYTORCH))]

    assert names == ["PyTorch fp32", "ONNX Runtime int8", "ONNX Runtime int8 (2)"]


@pytest.mark.parametrize("classes", [1, 41, 150])
def test_any_number_of_classes_can_be_drawn(classes) -> None:
    counts = np.eye(classes + 1, dtype=int) * 9
    counts[-1, -1] = 0
    names = tuple(f"class {k}" for k in range(classes))
    tally = Tally(images=1, classes=names, counts=tuple(map(tuple, counts.tolist())))

    page = html_page(report(replace(PYTORCH, tally=tally)))

    assert ("<details>" in page) == (classes > 40)


def test_thousands_of_steps_do_not_fill_the_page() -> None:
    steps = tuple(100 + (k * 37 % 101) / 50 for k in range(20_000))
    row = replace(PYTORCH, boundaries=timed(*steps))

    assert len(html_page(report(row))) < 1_500_000


def test_names_in_any_script_are_drawn_without_a_warning() -> None:
    classes = ("道路", "машина", "🚆")
    tally = Tally(images=1, classes=classes, counts=PYTORCH.tally.counts)

    page = html_page(report(replace(PYTORCH, tally=tally)))

    assert all(page.count(name) >= 2 for name in classes)


def test_the_same_report_gives_the_same_page(full, picture, whole) -> None:
    assert html_page(full, (picture,)) == whole


def test_another_ending_is_refused(full, tmp_path) -> None:
    with pytest.raises(SegdeployError, match=r"ends in \.html"):
        write_page(full, tmp_path / "report.pdf")

    assert Boundary.MMSEG in full.measurements[0].boundaries
    assert list(tmp_path.iterdir()) == []
