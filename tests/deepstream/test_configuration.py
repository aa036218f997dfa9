"""What nvinfer is told, key by key."""

import configparser
from dataclasses import replace

import pytest

from segdeploy.artifacts import Manifest
from segdeploy.deepstream.configuration import (
    NvinferOptions,
    NvinferOutput,
    class_lines,
    guide,
    nvinfer_configuration,
)
from segdeploy.errors import SegdeployError
from segdeploy.spec import ClassSet, Method, Precision, Size

SIZE = Size(512, 1024)
MANIFEST = Manifest(
    model="demo",
    method=Method.FCN,
    classes=ClassSet(("road", "traffic light"), ((1, 2, 3), (4, 5, 6))),
    size=SIZE,
)
PROBABILITIES = NvinferOptions(output=NvinferOutput.PROBABILITIES)
PARSER = {"custom-lib-path", "parse-segmentation-func-name"}


def keys(manifest: Manifest = MANIFEST, options: NvinferOptions | None = None) -> dict[str, str]:
    """Read as GLib reads key files: groups, and lines that start with # left out."""
    text = nvinfer_configuration(manifest, SIZE, options or NvinferOptions(), "0" * 64)
    parser = configparser.ConfigParser(interpolation=None, comment_prefixes="#", strict=True)
    parser.read_string(text)
    assert parser.sections() == ["property"]
    return dict(parser["property"])


def test_the_network_gets_planes_of_rgb_as_a_camera_gives_them():
    found = keys()

    assert found["infer-dims"] == "3;512;1024"
    assert found["network-input-order"] == "0"  # NCHW
    assert found["model-color-format"] == "0"  # RGB
    assert float(found["net-scale-factor"]) == 1
    assert "offsets" not in found  # the graph subtracts the mean


def test_it_is_a_segmentation_of_so_many_classes():
    found = keys()

    assert found["network-type"] == "2"
    assert found["num-detected-classes"] == "2"
    assert (found["onnx-file"], found["labelfile-path"]) == ("model.onnx", "labels.txt")


def test_label_maps_are_read_by_our_parser():
    found = keys()

    assert found["output-blob-names"] == "labels"
    assert found["custom-lib-path"] == "libsegdeploy_deepstream.so"
    assert found["parse-segmentation-func-name"] == "SegdeployParseLabels"
    assert "segmentation-threshold" not in found


def test_probabilities_are_read_by_nvinfers_own():
    found = keys(options=PROBABILITIES)

    assert found["output-blob-names"] == "probabilities"
    assert found["segmentation-output-order"] == "0"  # classes first
    assert float(found["segmentation-threshold"]) == 0  # no pixel is left without a class
    assert not PARSER & set(found)


@pytest.mark.parametrize("precision", Precision)
def test_the_precision_is_the_graphs_own(precision):
    """With network-mode 1, nvinfer wants a calibration file and falls back to FP16 without one."""
    found = keys(replace(MANIFEST, precision=precision))

    assert (found["strongly-typed"], found["network-mode"]) == ("1", "0")
    assert "int8-calib-file" not in found


def test_batch_and_gpu_name_the_engine_as_nvinfer_does():
    found = keys(replace(MANIFEST, batch=None), NvinferOptions(batch=4, gpu=1))

    assert (found["batch-size"], found["gpu-id"]) == ("4", "1")
    assert found["model-engine-file"] == "model.onnx_b4_gpu1_fp32.engine"


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"batch": 65}, {"gpu": -1}], ids=str)
def test_options_are_checked(wrong):
    with pytest.raises(SegdeployError, match="wanted"):
        NvinferOptions(**wrong)


def test_classes_are_lines():
    assert class_lines(MANIFEST) == "road\ntraffic light\n"


@pytest.mark.parametrize("name", ["", "a;b", "a\nb", "a\x1b[2J"])
def test_a_class_that_would_not_be_one_line_is_refused(name):
    classes = ClassSet(("road", name), MANIFEST.classes.palette)

    with pytest.raises(SegdeployError, match=r"cannot stand in labels\.txt"):
        class_lines(replace(MANIFEST, classes=classes))


def test_the_guide_compiles_a_parser_where_there_is_one():
    assert "\n    make\n" in guide(MANIFEST, SIZE, NvinferOptions())
    assert "\n    make\n" not in guide(MANIFEST, SIZE, PROBABILITIES)


def test_the_guide_gives_trtexec_shapes_where_the_batch_is_open():
    opened = replace(MANIFEST, batch=None)

    text = guide(opened, SIZE, NvinferOptions(batch=4))

    assert "--minShapes=image:1x3x512x1024 --optShapes=image:4x3x512x1024" in text
    assert "Shapes=" not in guide(MANIFEST, SIZE, NvinferOptions())


def test_the_guide_runs_everything_on_the_gpu_that_was_asked_for():
    assert guide(MANIFEST, SIZE, NvinferOptions(gpu=1)).count("gpu-id=1") == 5
    assert "gpu-id" not in guide(MANIFEST, SIZE, NvinferOptions())
