"""What a build is told: values out of range are refused before anything is built."""

from typing import Any

import pytest

from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"workspace_bytes": 0}, "workspace of 0 bytes"),
        ({"optimization_level": 6}, "optimization level 6; wanted 0 to 5"),
        ({"compute_capabilities": ("SM89",)}, "compute capability 'SM89'; wanted MAJOR.MINOR"),
    ],
)
def test_an_option_out_of_range_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SegdeployError, match=problem):
        EngineOptions(**values)


def test_tf32_is_off_by_default() -> None:
    assert not EngineOptions().tf32
