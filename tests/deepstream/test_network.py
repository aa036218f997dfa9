"""What nvinfer feeds and reads computes what the artifact computes."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from segdeploy.artifacts import Graph, Store
from segdeploy.deepstream.configuration import NvinferOutput
from segdeploy.deepstream.network import network_for_nvinfer
from segdeploy.errors import SegdeployError
from segdeploy.graph import inputs_and_outputs, read_model, save_graph
from segdeploy.images import write_png
from segdeploy.pipeline.calibration import open_calibration
from segdeploy.pipeline.graphs import QuantizeRequest, quantize_graph
from segdeploy.spec import INPUT, ClassSet, Method, Precision, Runtime, Size

SIZE = Size(64, 96)
OPEN = {"size": None, "batch": None}
CLASSES = 7


@pytest.fixture(scope="module")
def int8(exported, blocks, tmp_path_factory) -> Graph:
    """In TensorRT's form."""
    folder = tmp_path_factory.mktemp("int8")
    for seed in range(2):
        write_png(folder / "frames" / f"{seed}.png", blocks(SIZE, seed=seed)[0])
    graph = exported(Method.FCN)
    request = QuantizeRequest(
        calibration=open_calibration(str(folder / "frames"), folder),
        runtime=Runtime.TENSORRT,
        store=Store(folder),
    )
    return quantize_graph(graph, request, folder / "int8.onnx")


@pytest.fixture
def graph_of(exported, int8):
    graphs = {
        "fp32": lambda: exported(Method.FCN),
        "fp16": lambda: exported(Method.FCN, precision=Precision.FP16),
        "int8": lambda: int8,
        "open": lambda: exported(Method.FCN, **OPEN),
        "open deeplabv3plus": lambda: exported(Method.DEEPLABV3PLUS, **OPEN),
    }
    return lambda name: graphs[name]()


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    opened = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return opened.run(None, {INPUT: images})[0]


def planes_of(images: np.ndarray) -> np.ndarray:
    """As nvinfer makes them with net-scale-factor 1 and no offsets."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8", "open", "open deeplabv3plus"])
def test_every_label_is_that_of_the_artifact(name, graph_of, blocks):
    graph = graph_of(name)
    images = blocks(SIZE, count=graph.manifest.batch or 2, seed=5)
    expected = run(read_model(graph.path), images)

    found = run(network_for_nvinfer(graph, NvinferOutput.LABELS, SIZE), planes_of(images))

    assert found.dtype == np.int32
    assert len(np.unique(expected)) > 2
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["fp32", "fp16", "open"])
def test_the_most_probable_class_is_the_label(name, graph_of, blocks):
    graph = graph_of(name)
    images = blocks(SIZE, count=graph.manifest.batch or 2, seed=5)
    expected = run(read_model(graph.path), images)

    found = run(network_for_nvinfer(graph, NvinferOutput.PROBABILITIES, SIZE), planes_of(images))

    assert (found.dtype, found.shape) == (np.float32, (len(images), CLASSES, *SIZE))
    assert found.sum(axis=1) == pytest.approx(np.ones((len(images), *SIZE)), abs=1e-5)
    # Two logits may round to one probability; measured here: none does.
    assert (found.argmax(axis=1) == expected).mean() >= 0.9999


def test_tensors_are_described_for_nvinfer(exported):
    labels = network_for_nvinfer(exported(Method.FCN), NvinferOutput.LABELS, SIZE)
    scores = network_for_nvinfer(exported(Method.FCN, **OPEN), NvinferOutput.PROBABILITIES, SIZE)

    described = [
        [str(facts) for facts in (*inputs, *outputs)]
        for inputs, outputs in map(inputs_and_outputs, (labels, scores))
    ]

    assert described == [
        ["image: float (1, 3, 64, 96)", "labels: int32 (1, 64, 96)"],
        ["image: float (batch, 3, 64, 96)", "probabilities: float (batch, 7, 64, 96)"],
    ]


def test_a_graph_of_one_size_transposes_no_pixels(exported):
    """It takes planes to pixels and back otherwise."""
    network = network_for_nvinfer(exported(Method.FCN), NvinferOutput.LABELS, SIZE)

    assert "Transpose" not in {node.op_type for node in network.graph.node}


def test_it_is_no_artifact_and_says_nothing_of_this_machine(exported):
    network = network_for_nvinfer(exported(Method.FCN), NvinferOutput.LABELS, SIZE)

    assert not network.metadata_props


def test_a_graph_without_labels_is_refused(exported, tmp_path):
    model = onnx.load(exported(Method.FCN).path)
    kept = next(k for k, node in enumerate(model.graph.node) if node.op_type == "ArgMax")
    scores = model.graph.node[kept].input[0]
    del model.graph.node[kept:], model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, ("n", "c", "h", "w"))
    )
    graph = save_graph(model, exported(Method.FCN).manifest, tmp_path / "scores.onnx")

    with pytest.raises(SegdeployError, match=r"scores\.onnx: has no ArgMax"):
        network_for_nvinfer(graph, NvinferOutput.LABELS, SIZE)


def test_a_manifest_of_other_classes_is_refused(exported):
    graph = exported(Method.FCN)
    other = Graph(graph.path, replace(graph.manifest, classes=ClassSet.numbered(CLASSES + 1)))

    with pytest.raises(SegdeployError, match="is not the network that its manifest describes"):
        network_for_nvinfer(other, NvinferOutput.PROBABILITIES, SIZE)


@pytest.mark.parametrize("name", ["fp32", "int8", "open", "open deeplabv3plus"])
@pytest.mark.parametrize("output", NvinferOutput)
def test_tensorrt_builds_it_as_nvinfer_does(name, output, graph_of):
    """The batch is opened whatever it was, one profile, strongly typed; by TensorRT-RTX here."""
    library = pytest.importorskip("tensorrt_rtx")
    graph = graph_of(name)
    most = graph.manifest.batch or 4
    network = network_for_nvinfer(graph, output, SIZE)
    log = library.Logger(library.Logger.ERROR)
    builder = library.Builder(log)
    flags = library.NetworkDefinitionCreationFlag
    definition = builder.create_network(1 << int(flags.STRONGLY_TYPED))
    parser = library.OnnxParser(definition, log)

    assert parser.parse(network.SerializeToString())
    image = definition.get_input(0)
    image.shape = (-1, 3, *SIZE)
    configuration = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, (1, 3, *SIZE), (most, 3, *SIZE), (most, 3, *SIZE))
    configuration.add_optimization_profile(profile)

    assert builder.build_serialized_network(definition, configuration) is not None
