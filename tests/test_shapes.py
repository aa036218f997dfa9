"""Shape profiles: what is refused in Python because TensorRT would not say it clearly."""

from typing import Any

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.shapes import ShapeProfile, TensorInfo, check_profiles

DYNAMIC = TensorInfo("image", "uint8", (-1, -1, -1, 3))
FIXED_SIZE = TensorInfo("image", "uint8", (-1, 512, 1024, 3))
STATIC = TensorInfo("image", "uint8", (1, 512, 1024, 3))


def profile(**changed: Any) -> ShapeProfile:
    shapes = {"min": (1, 128, 128, 3), "opt": (1, 512, 1024, 3), "max": (4, 1024, 2048, 3)}
    return ShapeProfile(**{"tensor": "image", **shapes, **changed})


def test_a_fitting_profile_passes() -> None:
    check_profiles([DYNAMIC], [(profile(),), (profile(max=(8, 1024, 2048, 3)),)])


def test_a_static_input_needs_no_profile() -> None:
    check_profiles([STATIC], [])


@pytest.mark.parametrize(
    ("tensor", "profiles", "problem"),
    [
        pytest.param(DYNAMIC, [profile(tensor="x")], "names the input 'x'.*has 'image'", id="name"),
        pytest.param(DYNAMIC, [], r"'image' is open \(\?x\?x\?x3\) and has no", id="none"),
        pytest.param(
            DYNAMIC,
            [profile(min=(1, 640, 128, 3))],
            "axis 1 has min, opt and max 640, 512, 1024; wanted min <= opt <= max",
            id="order",
        ),
        pytest.param(
            FIXED_SIZE,
            [profile(min=(1, 512, 1024, 3), max=(8, 256, 1024, 3))],
            "max 8x256x1024x3 is 256 at axis 1; wanted 512: it is fixed",
            id="fixed axis",
        ),
        pytest.param(DYNAMIC, [profile(), profile()], "twice in one profile", id="twice"),
        pytest.param(DYNAMIC, [profile(opt=(512, 1024, 3))], "has 3 axes; wanted 4", id="rank"),
        pytest.param(
            DYNAMIC, [profile(min=(0, 128, 128, 3))], "is 0 at axis 0; wanted 1 or more", id="zero"
        ),
    ],
)
def test_a_profile_trap_is_refused(
    tensor: TensorInfo, profiles: list[ShapeProfile], problem: str
) -> None:
    with pytest.raises(SegdeployError, match=problem):
        check_profiles([tensor], [tuple(profiles)] if profiles else [])
