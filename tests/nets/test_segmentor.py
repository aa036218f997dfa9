"""The networks are MMSegmentation's, weight by weight and bin by bin."""

import hashlib

import pytest
import torch
from torch.nn import functional

from segdeploy.nets.mobilenet_v2 import MobileNetV2, scaled_channels, stage_channels
from segdeploy.nets.pooling import AdaptivePool, pooling_matrix
from segdeploy.nets.segmentor import PixelsIn, Segmentor
from segdeploy.recipes import load_model
from segdeploy.spec import Method, Normalization, Output

# Of the models that mmsegmentation 1.2.2 builds from configs/mobilenet_v2, without the auxiliary
# head: tensors in the state dict, parameters, and the first half of the sha256 of the sorted lines
# "NAME SHAPE" of all tensors but num_batches_tracked.
MMSEG = {
    "fcn-cityscapes": (326, 9492243, "395ba2194a60d5f25e1cec52a17a4ffb"),
    "pspnet-cityscapes": (338, 13393683, "ba082346861d97fa5723c6ca18c72813"),
    "deeplabv3-cityscapes": (344, 18375443, "d6b4502976c7de5fa3cfe0dee1c694a2"),
    "deeplabv3plus-cityscapes": (392, 15017795, "38b95ce3f59a0577ebe0cd70950f3559"),
    "fcn-ade20k": (326, 9559446, "1a308e13b0e9c0e019811c70161600c6"),
    "pspnet-ade20k": (338, 13460886, "588986aac0e552e258c9f0b2c5c7a7c7"),
    "deeplabv3-ade20k": (344, 18442646, "e620eb9826cfe1368dc2526974d44e2d"),
    "deeplabv3plus-ade20k": (392, 15084998, "934cb49dc97b51ecd1726a129fb5daec"),
}


def narrow(method: Method) -> Segmentor:
    torch.manual_seed(0)
    return Segmentor(method, 5, width=0.35, head_channels=16).eval()


@pytest.mark.parametrize("model", MMSEG)
def test_a_zoo_model_has_the_weights_of_the_official_one(model):
    spec = load_model(model)

    with torch.device("meta"):
        network = Segmentor(spec.method, len(spec.classes), head_channels=spec.head_channels)

    state = network.state_dict()
    lines = sorted(
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
    assert (len(state), parameters, digest) == MMSEG[model]


@pytest.mark.parametrize("method", Method)
def test_logits_have_the_stride_of_the_method(method):
    image = torch.rand(2, 3, 96, 160)

    with torch.inference_mode():
        logits = narrow(method)(image)

    assert logits.shape == (2, 5, 96 // method.stride, 160 // method.stride)


def test_the_backbone_returns_strides_4_8_8_and_8():
    network = MobileNetV2(0.35).eval()

    with torch.inference_mode():
        features = network(torch.rand(1, 3, 64, 96))

    shapes = [(16, 24), (8, 12), (8, 12), (8, 12)]
    assert [tuple(feature.shape[2:]) for feature in features] == shapes
    assert [feature.shape[1] for feature in features] == list(stage_channels(0.35))


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [
        (320, 1.0, 320),
        (32, 0.35, 16),  # 11.2 would round to 8, which is below 90 % of it
        (24, 0.35, 8),
        (24, 0.5, 16),  # 12 lies between 8 and 16: half up
        (16, 0.1, 8),  # never below 8
        (96, 1.4, 136),
    ],
)
def test_widths_round_to_multiples_of_eight_as_in_mmseg(channels, width, expected):
    assert scaled_channels(channels, width) == expected


@pytest.mark.parametrize("method", Method)
def test_labels_are_the_best_class_of_the_resized_logits(method):
    network = narrow(method)
    image = torch.randint(0, 256, (1, 97, 65, 3), dtype=torch.uint8)
    labels_of = PixelsIn(network, Normalization(), Output.LABELS).eval()
    logits_of = PixelsIn(network, Normalization(), Output.LOGITS).eval()

    with torch.inference_mode():
        labels, logits = labels_of(image), logits_of(image)
        scores = functional.interpolate(logits, size=(97, 65), mode="bilinear", align_corners=False)

    assert labels.dtype == torch.uint8
    assert torch.equal(labels, scores.argmax(1).to(torch.uint8))


def test_normalization_is_part_of_the_network():
    network = narrow(Method.FCN)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    normalization = Normalization(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))

    with torch.inference_mode():
        logits = PixelsIn(network, normalization, Output.LOGITS).eval()(image)
        by_hand = (image.double() - torch.tensor([10, 20, 30])) / torch.tensor([2, 4, 8])
        expected = network(by_hand.float().permute(0, 3, 1, 2))

    torch.testing.assert_close(logits, expected)


def test_the_highest_class_id_survives_half_precision():
    network = Segmentor(Method.FCN, 255, width=0.35, head_channels=16).half()
    module = PixelsIn(network, Normalization(), Output.LABELS)
    logits = torch.zeros(1, 255, 4, 4, dtype=torch.float16)
    logits[:, 253], logits[:, 254, 2:] = 1, 2

    labels = module.labels(logits, (4, 4))

    assert labels[0, :, 0].tolist() == [253, 253, 254, 254]


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("pixels", [*range(6, 40), 64, 97, 128, 255, 256, 1023, 1024])
def test_the_pooling_matrix_is_adaptive_average_pooling(bins, pixels):
    line = torch.rand(1, 1, pixels, generator=torch.Generator().manual_seed(pixels))

    pooled = line @ pooling_matrix(pixels, bins).t()

    expected = functional.adaptive_avg_pool1d(line.double(), bins).float()
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 6])
@pytest.mark.parametrize("size", [(6, 6), (21, 29), (32, 64)])
def test_pooling_exports_to_what_it_computes_eagerly(monkeypatch, bins, size):
    pool, x = AdaptivePool(bins), torch.randn(2, 3, *size)
    eager = pool(x)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)

    exported = pool(x)

    assert torch.equal(eager, functional.adaptive_avg_pool2d(x, bins))
    torch.testing.assert_close(exported, eager, rtol=0, atol=1e-6)


def test_pooling_of_half_values_keeps_the_digits_of_a_large_map(monkeypatch):
    x = torch.full((1, 1, 128, 256), 3.001).half()
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)

    pooled = AdaptivePool(2)(x)

    assert pooled.dtype == torch.float16
    assert torch.equal(pooled, x[:, :, :2, :2])
