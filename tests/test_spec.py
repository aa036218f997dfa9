"""The vocabulary refuses what it cannot mean."""

import copy
import pickle

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.spec import CPU, ClassSet, Device, Method, ModelSpec, Normalization, Precision, Size

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(("text", "size"), [("512x1024", Size(512, 1024)), ("33X97", Size(33, 97))])
def test_a_size_is_read_height_first(text, size):
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", "512", "512x", "x512", "0x512", "-1x5", "5x5x5", "1.5x2", "²x2"]
)
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(SegdeployError, match="HEIGHTxWIDTH") as caught:
        Size.parse(text)

    assert "512x1024" in caught.value.hint


def test_a_size_reads_back_what_it_prints():
    assert Size.parse(str(Size(1024, 2048))) == Size(1024, 2048)


@pytest.mark.parametrize(
    ("names", "palette", "complaint"),
    [
        (("only",), (RED,), "1 classes"),
        (tuple(map(str, range(256))), (RED,) * 256, "256 classes"),
        (("a", "b"), (RED,), "2 class names but 1 colours"),
        (("a", "b"), (RED, (0, 0, 256)), "0 to 255"),
        (("a", "b"), (RED, (0, -1, 0)), "0 to 255"),
        (("a", "b"), (RED, (0, 0)), "three values"),
    ],
)
def test_an_impossible_class_set_is_refused(names, palette, complaint):
    with pytest.raises(SegdeployError, match=complaint):
        ClassSet(names, palette)


def test_a_class_set_has_a_length():
    assert len(ClassSet(("a", "b"), (RED, BLUE))) == 2


def test_numbered_classes_have_different_colours():
    classes = ClassSet.numbered(150)

    assert len(set(classes.palette)) == 150
    assert classes.names[149] == "class 149"


def test_normalization_is_that_of_imagenet_in_0_to_255():
    normalization = Normalization()

    assert [value / 255 for value in normalization.mean] == pytest.approx([0.485, 0.456, 0.406])
    assert [value / 255 for value in normalization.std] == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("method", "name", "stride"),
    [
        (Method.FCN, "FCN", 8),
        (Method.PSPNET, "PSPNet", 8),
        (Method.DEEPLABV3, "DeepLabV3", 8),
        (Method.DEEPLABV3PLUS, "DeepLabV3+", 4),
    ],
)
def test_a_method_has_its_printed_name_and_stride(method, name, stride):
    assert (method.display_name, method.stride) == (name, stride)


def test_a_title_names_method_and_data_set():
    assert ModelSpec("m", Method.FCN, dataset="camvid").title == "FCN camvid"
    assert ModelSpec("m", Method.FCN).title == "FCN own classes"


def test_precisions_print_as_options_spell_them():
    assert [str(precision) for precision in Precision] == ["fp32", "fp16", "int8"]


@pytest.mark.parametrize(
    ("text", "device", "is_cuda", "number"),
    [
        ("cpu", "cpu", False, 0),
        ("CPU", "cpu", False, 0),
        ("cuda", "cuda:0", True, 0),
        ("cuda:0", "cuda:0", True, 0),
        ("CUDA:12", "cuda:12", True, 12),
        ("cuda:01", "cuda:1", True, 1),
    ],
)
def test_a_device_is_the_cpu_or_a_gpu_by_its_number(text, device, is_cuda, number):
    found = Device(text)

    assert (str(found), found.is_cuda, found.number) == (device, is_cuda, number)


@pytest.mark.parametrize(
    "text",
    ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda: 1", "cuda:²", "cuda:1:2", "cpu:0", "cuda1"],
)
def test_what_is_no_device_is_refused(text):
    with pytest.raises(SegdeployError, match=r"wanted cpu, cuda or cuda:N") as caught:
        Device(text)

    assert repr(text) in str(caught.value)


def test_a_number_that_no_machine_has_is_refused_and_no_crash():
    with pytest.raises(SegdeployError, match=r"wanted cpu, cuda or cuda:N"):
        Device("cuda:" + "1" * 5000)


def test_a_device_is_its_text():
    assert Device("cuda") == Device("cuda:0") == "cuda:0"
    assert {Device("cpu"): 1}["cpu"] == 1
    assert Device(Device("cuda:3")).number == 3
    assert CPU == "cpu"


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_device_survives_the_way_between_processes(travel):
    arrived = travel(Device("cuda:2"))

    assert (type(arrived), arrived.number, arrived.is_cuda) == (Device, 2, True)
