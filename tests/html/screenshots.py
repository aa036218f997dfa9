"""Make the pictures of docs/benchmark.md: python tests/html/screenshots.py report.html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "doubles"))
import chromium

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def main(page: Path) -> None:
    """A wide window by day, a phone by night, both from the top."""
    with chromium.browser() as tab:
        tab.show(1160, 900)
        tab.open(page)
        data = tab.picture(x=0, y=0, width=1160, height=1240, scale=0.75)
        (PICTURES / "report-light.png").write_bytes(data)
        tab.show(390, 844, dark=True)
        tab.open(page)
        top = tab.value("document.querySelector('#accuracy').getBoundingClientRect().top")
        data = tab.picture(x=0, y=top, width=390, height=1340, scale=0.7)
        (PICTURES / "report-dark-phone.png").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
