"""What is closed by its block."""

import pytest

from segdeploy.closing import Closing


class Door(Closing):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_block_closes_what_it_opened_also_after_an_error():
    with Door() as door:
        assert door.closed == 0
    with pytest.raises(ZeroDivisionError), door:
        raise ZeroDivisionError

    assert door.closed == 2
