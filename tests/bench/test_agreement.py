"""Label maps of one row beside those of the rows before it."""

from pathlib import Path

import numpy as np
import pytest

from segdeploy.bench.agreement import LabelWatch
from segdeploy.measurement import Agreement
from segdeploy.spec import Precision, Runtime

PYTORCH = (Runtime.PYTORCH, Precision.FP32)
FP32 = (Runtime.ONNXRUNTIME, Precision.FP32)
INT8 = (Runtime.ONNXRUNTIME, Precision.INT8)
MAPS = [np.arange(12, dtype=np.uint8).reshape(3, 4), np.full((2, 2), 7, np.uint8)]


def see(folder: Path, row: tuple[Runtime, Precision], wrong: int = 0) -> tuple[Agreement, ...]:
    """The agreement of a row that differs in the first pixels of the first image."""
    watch = LabelWatch(folder, row)
    first = MAPS[0].copy()
    first.ravel()[:wrong] += 1
    for index, labels in enumerate([first, MAPS[1]]):
        watch(index, labels)
    return watch.agreement()


def agreement(row: tuple[Runtime, Precision], equal: int) -> Agreement:
    return Agreement(runtime=row[0], precision=row[1], pixels=16, equal_pixels=equal)


def test_int8_is_compared_with_pytorch_and_with_fp32_of_its_own_runtime(tmp_path):
    assert see(tmp_path, PYTORCH) == ()
    assert see(tmp_path, FP32, wrong=1) == (agreement(PYTORCH, 15),)
    assert see(tmp_path, INT8, wrong=3) == (agreement(PYTORCH, 13), agreement(FP32, 14))


def test_a_row_alone_agrees_with_nobody(tmp_path):
    assert see(tmp_path, INT8) == ()
    assert see(tmp_path, FP32) == ()  # int8 is kept for nobody


def test_a_second_row_of_the_same_kind_is_not_compared_with_itself(tmp_path):
    see(tmp_path, PYTORCH)
    see(tmp_path, FP32)

    assert see(tmp_path, FP32, wrong=2) == (agreement(PYTORCH, 14),)
    assert see(tmp_path, INT8) == (agreement(PYTORCH, 16), agreement(FP32, 16))  # with the first


def test_rows_of_other_precisions_wait_for_their_own_runtime(tmp_path):
    see(tmp_path, FP32)

    assert see(tmp_path, (Runtime.TENSORRT, Precision.FP16)) == ()


def test_a_map_of_another_shape_is_no_share_of_anything(tmp_path):
    see(tmp_path, PYTORCH)
    watch = LabelWatch(tmp_path, FP32)

    with pytest.raises(ValueError, match="shape"):
        watch(0, np.zeros((5, 5), np.uint8))
