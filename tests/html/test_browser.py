"""The page in a real browser: nothing asked of the network, no complaint, no overflow."""

from pathlib import Path

import chromium
import pytest

from segdeploy.html.page import write_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
]
DESKTOP, PHONE = (1200, 900), (360, 780)


@pytest.fixture(scope="module")
def tab():
    with chromium.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(whole, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(whole)
    return path


def complaints(tab: chromium.Tab) -> list[dict]:
    kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    return [event for event in tab.events if event["method"] in kinds]


def requests(tab: chromium.Tab) -> list[str]:
    asked = [e["params"] for e in tab.events if e["method"] == "Network.requestWillBeSent"]
    addresses = [parameters["request"]["url"] for parameters in asked]
    return [address for address in addresses if not address.startswith("data:")]


def too_wide(tab: chromium.Tab) -> int:
    return tab.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_loads_alone_and_fits(tab, page, size, dark) -> None:
    tab.show(*size, dark=dark)

    tab.open(page)

    assert complaints(tab) == []
    assert requests(tab) == [page.resolve().as_uri()]
    assert too_wide(tab) == 0
    assert tab.value("document.images.length") == 4
    assert tab.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_the_driver_sees_what_a_bad_page_does(tab, tmp_path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<meta name="viewport" content="width=device-width"><body style="width: 900px">'
        '<img src="missing.png"><script>throw Error("bad")</script>'
    )
    tab.show(*PHONE)

    tab.open(bad)

    assert complaints(tab) != []
    assert len(requests(tab)) == 2
    assert too_wide(tab) > 0


def test_hostile_names_run_nothing(tab, hostile, tmp_path) -> None:
    path = tmp_path / "hostile.html"
    write_page(hostile, path)
    tab.show(*PHONE)

    tab.open(path)

    assert complaints(tab) == []
    assert requests(tab) == [path.resolve().as_uri()]
    assert tab.value("document.scripts.length") == 0
    assert too_wide(tab) == 0


CONTRAST = """(() => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const rgb = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const page = light(rgb(getComputedStyle(document.body).backgroundColor));
  const ratios = [...document.querySelectorAll("p, td span, th, small, a, dd, dt, li, svg text")]
    .filter(e => e.textContent.trim())
    .map(e => getComputedStyle(e)[e.closest("svg") ? "fill" : "color"])
    .map(colour => light(rgb(colour)))
    .map(text => (Math.max(text, page) + .05) / (Math.min(text, page) + .05));
  return Math.min(...ratios);
})()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_by_day_and_by_night(tab, page, dark) -> None:
    tab.show(*DESKTOP, dark=dark)

    tab.open(page)

    background = tab.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark
    assert tab.value(CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3


def test_what_is_printed_is_black_on_white_and_whole(tab, page) -> None:
    tab.show(794, 1123, dark=True, media="print")  # A4

    tab.open(page)

    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.value("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert too_wide(tab) == 0
    assert tab.pdf().startswith(b"%PDF-")


def test_a_wide_table_scrolls_by_itself(tab, page) -> None:
    tab.show(*PHONE)

    tab.open(page)

    scrolls = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
    assert tab.value(f"{scrolls}.length") > 0
    assert tab.value(f"{scrolls}.every(e => e.tabIndex === 0)")
