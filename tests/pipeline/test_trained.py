"""Checkpoints from quantization-aware training: the graph computes what training computed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from segdeploy.accuracy import AccuracyFloor
from segdeploy.artifacts import Store
from segdeploy.errors import SegdeployError
from segdeploy.graph import read_model
from segdeploy.lint import integer_convolutions
from segdeploy.nets.checkpoint import build_network, random_checkpoint
from segdeploy.nets.quantizers import trained_convolutions
from segdeploy.pipeline.graphs import logits_of
from segdeploy.pipeline.make import EngineRequest, export_options, make_engine, make_graph
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.pipeline.verdict import VerdictRequest, build_with_verdict
from segdeploy.recipes import load_model
from segdeploy.runtime import open_session
from segdeploy.spec import Method, Output, Precision, Runtime, Size

SIZE = Size(64, 96)
FLOATING = "decode_head.conv_seg"  # has no quantizers


def fake_quantized(network: torch.nn.Module, ranges: dict[str, torch.Tensor]) -> None:
    """Let each convolution round its input and its weights, as training does."""

    def round_input(name: str):
        scale = float(ranges[f"{name}.input"]) / 127
        return lambda _, inputs: torch.fake_quantize_per_tensor_affine(
            inputs[0], scale, 0, -128, 127
        )

    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name != FLOATING:
            scale = ranges[f"{name}.weight"].reshape(-1) / 127
            zero = torch.zeros(len(scale), dtype=torch.int32)
            layer.weight.data = torch.fake_quantize_per_channel_affine(
                layer.weight.data, scale, zero, 0, -127, 127
            )
            layer.register_forward_pre_hook(round_input(name))


@pytest.fixture(scope="module")
def images(blocks) -> np.ndarray:
    return blocks(SIZE, count=2)


def normalized(images: np.ndarray, source: Source) -> torch.Tensor:
    mean, std = (
        torch.tensor(x) for x in (source.spec.normalization.mean, source.spec.normalization.std)
    )
    return ((torch.from_numpy(images).float() - mean) / std).permute(0, 3, 1, 2)


@pytest.fixture(scope="module", params=[Method.DEEPLABV3PLUS, Method.PSPNET])
def toml(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "narrow.toml"
    path.write_text(
        f'method = "{request.param}"\nlicense = "MIT"\nsize = [{SIZE.height}, {SIZE.width}]\n'
        "width = 0.35\nhead_channels = 16\n"
    )
    return path


@pytest.fixture(scope="module")
def source(toml, images) -> Source:
    """Random weights, and ranges that clip a little, as a training run would save them."""
    spec = load_model(str(toml))
    checkpoint = random_checkpoint(spec, 0)
    network, _ = build_network(spec, checkpoint)
    state = dict(checkpoint.state)

    def remember(name: str):
        def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            state[f"{name}.input_quantizer._amax"] = 0.9 * inputs[0].abs().max()

        return hook

    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name != FLOATING:
            limits = 0.95 * layer.weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
            state[f"{name}.weight_quantizer._amax"] = limits
            layer.register_forward_pre_hook(remember(name))
    with torch.no_grad():
        network(normalized(images, Source(spec, checkpoint)))
    path = toml.with_suffix(".pth")
    torch.save({"state_dict": state}, path)
    return resolve_source(str(toml), str(path), Store(toml.parent))


def request(source: Source, folder: Path, **more) -> EngineRequest:
    wanted = {"precision": Precision.INT8, "runtime": Runtime.ONNXRUNTIME, "store": Store(folder)}
    return EngineRequest(**wanted | more)


def options():
    return export_options(size=SIZE, batch=2, precision=Precision.FP32, output=Output.LABELS)


def test_weights_are_those_that_training_rounded_behind_batch_norm(source, tmp_path):
    network, _ = build_network(source.spec, source.checkpoint)
    fake_quantized(network, source.checkpoint.ranges)
    expected = {}
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and name != FLOATING:
            norm = network.get_submodule(f"{name.rpartition('.')[0]}.bn")
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            expected[name] = (layer.weight * factor[:, None, None, None]).detach().numpy()

    trained = trained_convolutions(source.spec, source.checkpoint)

    assert len(trained) == len(expected) == len(source.checkpoint.ranges) // 2
    for convolution in trained:
        name = convolution.weight.removeprefix("segmentor.").removesuffix(".weight")
        found = convolution.integers * convolution.scale[:, None, None, None]
        steps = np.abs(found - expected[name]) / convolution.scale[:, None, None, None]
        assert steps.max() < 1.001, name
        assert (steps > 1e-3).mean() < 1e-3, name  # halfway between two steps: either
        assert convolution.input_scale == source.checkpoint.ranges[f"{name}.input"] / 127


@pytest.mark.parametrize("runtime", [Runtime.ONNXRUNTIME, Runtime.TENSORRT])
def test_the_graph_computes_what_training_computed(source, images, tmp_path, runtime):
    """As far as can be told: random weights amplify each value that is rounded the other way."""
    network, _ = build_network(source.spec, source.checkpoint)
    with torch.no_grad():
        floating = network(normalized(images, source)).numpy()
        fake_quantized(network, source.checkpoint.ranges)
        expected = network(normalized(images, source)).numpy()

    graph = make_graph(source, options(), request(source, tmp_path, runtime=runtime))

    found = logits_of(read_model(graph.path), graph.manifest, [images])[0].astype(np.float32)
    convolutions = len(source.checkpoint.ranges) // 2
    assert integer_convolutions(read_model(graph.path)) == convolutions
    assert graph.manifest.calibration == f"as trained: {convolutions} convolutions of narrow.pth"
    assert np.square(found - expected).sum() < np.square(floating - expected).sum() / 4


def test_a_channel_that_batch_norm_turned_off_is_zero(toml, source, images, tmp_path):
    content = torch.load(toml.with_suffix(".pth"), weights_only=True)
    content["state_dict"]["backbone.conv1.bn.weight"][2] = 0
    path = tmp_path / "narrow.pth"
    torch.save(content, path)
    pruned = resolve_source(str(toml), str(path), Store(tmp_path))

    graph = make_graph(pruned, options(), request(pruned, tmp_path))

    model = read_model(graph.path)
    scales = [t for t in model.graph.initializer if t.name.endswith("weight_scale")]
    assert all(numpy_helper.to_array(scale).min() > 0 for scale in scales)
    assert np.isfinite(logits_of(model, graph.manifest, [images])[0]).all()


def test_an_engine_is_built_of_it_once(source, images, tmp_path):
    built = make_engine(source, options(), request(source, tmp_path))
    again = make_engine(source, options(), request(source, tmp_path))

    with open_session(built.plan) as session:
        labels = session.run(images)
    assert labels.shape == (2, *SIZE)
    assert len(np.unique(labels)) > 1
    assert built.seconds > 0
    assert again.seconds == 0


def test_nothing_is_left_to_choose(source, tmp_path):
    with pytest.raises(SegdeployError, match="was trained with int8 scales") as caught:
        make_graph(source, options(), request(source, tmp_path, calibration="demo-64"))
    assert "--calibration" in caught.value.hint


def test_a_floor_is_for_graphs_whose_layers_can_be_chosen(source, toml, tmp_path):
    wanted = VerdictRequest(floor=AccuracyFloor.parse("99%"), dataset="demo", limit=1, budget_s=1)

    with pytest.raises(SegdeployError, match="so no layer is chosen here"):
        build_with_verdict(
            str(toml), str(toml.with_suffix(".pth")), request(source, tmp_path), wanted
        )


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "backbone.conv1.conv.output_scaler_quantizer._amax",
            [1.0],
            "a quantizer that is not known",
        ),
        ("backbone.conv1.conv.weight_quantizer._amax", [-1.0], "a magnitude below zero"),
        ("backbone.conv1.conv.weight_quantizer._amax", [1.0, 2.0], "have 2 and 1 values; wanted"),
        ("backbone.conv1.conv.input_quantizer._amax", [1.0, 2.0], "and 2 values; wanted"),
        ("backbone.conv1.bn.input_quantizer._amax", [1.0], "which is no convolution"),
    ],
)
def test_ranges_that_fit_nothing_are_refused(toml, source, tmp_path, name, value, problem):
    content = torch.load(toml.with_suffix(".pth"), weights_only=True)
    content["state_dict"][name] = torch.tensor(value)
    path = tmp_path / "odd.pth"
    torch.save(content, path)

    def read() -> None:
        odd = resolve_source(str(toml), str(path), Store(tmp_path))
        trained_convolutions(odd.spec, odd.checkpoint)

    with pytest.raises(SegdeployError, match=problem):
        read()
