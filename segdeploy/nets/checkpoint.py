"""Checkpoints of every dialect that MMSegmentation wrote, read without running what is in them."""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.serialization import safe_globals

from segdeploy.artifacts import sha256_of
from segdeploy.errors import SegdeployError
from segdeploy.nets.segmentor import Segmentor
from segdeploy.spec import RANDOM, ClassSet, Method, ModelSpec

StateDict = dict[str, torch.Tensor]

# Never used at inference: a checkpoint may have them or not.
UNUSED_PREFIX = "auxiliary_head."
UNUSED_SUFFIX = "num_batches_tracked"
# Model Optimizer writes `conv.weight_quantizer._amax`, pytorch-quantization `_weight_quantizer`.
QUANTIZER = re.compile(r"(?P<module>.+)\._?(?P<kind>weight|input)_quantizer\._amax")


class _Inert:
    """Stands in for what a training run left in the file: takes anything, does nothing."""

    def __init__(self, *_args: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


# What mmengine's message_hub holds beside the weights: smoothed losses (mmengine#1655) and numbers.
# Both spellings of numpy's module occur; `getattr` is how a HistoryBuffer names its own methods.
_TRAINING_LEFTOVERS = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    *(
        f"{module}.multiarray.{name}"
        for module in ("numpy.core", "numpy._core")
        for name in ("_reconstruct", "scalar")
    ),
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
    "__builtin__.getattr",
    "builtins.getattr",
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk, read: float32 tensors by name, and the classes that the file names."""

    name: str  # the file's name, or "random:SEED"
    sha256: str
    state: StateDict
    classes: ClassSet | None = None
    ranges: StateDict = field(default_factory=dict)  # learned by quantizers: "MODULE.weight", ...

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: they have learned of no image."""
        return self.name.startswith(RANDOM)

    @property
    def class_count(self) -> int:
        """Read off the last convolution."""
        weight = self.state.get("decode_head.conv_seg.weight")
        if weight is None or weight.ndim != 4:
            raise SegdeployError(
                f"{self.name}: has no weight `decode_head.conv_seg.weight` of four dimensions",
                hint="wanted a checkpoint of an MMSegmentation MobileNetV2 model",
            )
        return int(weight.shape[0])


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file through PyTorch's restricted unpickler, which knows tensors and containers only.

    Zip and pre-1.6 stream serialization, mmcv and mmengine layouts, a bare state dict, a `module.`
    prefix and half-precision weights are all read; a pickle that asks for anything else is refused.
    """
    if not path.is_file():
        raise SegdeployError(f"{path}: no such file")
    aliases: list[Any] = [(_Inert, name) for name in _TRAINING_LEFTOVERS]
    try:
        with warnings.catch_warnings(), safe_globals(aliases):
            warnings.simplefilter("ignore")  # of pickle protocols and old numpy names
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise SegdeployError(
                f"{path}: is not a PyTorch checkpoint, or a damaged one"
            ) from error
        raise SegdeployError(
            f"{path}: refused, its pickle asks for `{wanted[1]}`, which no checkpoint needs",
            hint="the file may be malicious; save only the state dict if it is your own",
        ) from error
    except Exception as error:  # flipped bytes raise IndexError, struct.error, AssertionError, ...
        raise SegdeployError(
            f"{path}: is not a PyTorch checkpoint, or a damaged one ({type(error).__name__})"
        ) from error
    if not isinstance(content, Mapping):
        raise SegdeployError(f"{path}: holds a {type(content).__name__}; wanted a state dict")
    meta = content.get("meta")
    weights = _weights(content.get("state_dict", content), path)
    ranges = _ranges(weights, path)
    return Checkpoint(
        name=path.name,
        sha256=sha256_of(path),
        state={name: tensor for name, tensor in weights.items() if "_quantizer." not in name},
        ranges=ranges,
        classes=_classes(meta, path) if isinstance(meta, Mapping) else None,
    )


def _weights(state: Any, path: Path) -> StateDict:
    if not isinstance(state, Mapping):
        raise SegdeployError(f"{path}: `state_dict` is a {type(state).__name__}, not a mapping")
    weights: StateDict = {}
    for key, value in state.items():
        name = str(key).removeprefix("module.")
        if name.startswith(UNUSED_PREFIX) or name.endswith(UNUSED_SUFFIX):
            continue
        if not isinstance(value, torch.Tensor):
            raise SegdeployError(f"{path}: `{name}` is a {type(value).__name__}, not a tensor")
        if value.is_sparse or value.is_quantized or not value.is_floating_point():
            raise SegdeployError(f"{path}: `{name}` is {value.dtype}; wanted floating point")
        weights[name] = value.float()
        if not bool(torch.isfinite(weights[name]).all()):
            raise SegdeployError(f"{path}: `{name}` holds NaN or infinite values")
    return weights


def _ranges(state: StateDict, path: Path) -> StateDict:
    """What quantization-aware training learned: the largest magnitude of each quantizer."""
    ranges = {}
    for name, tensor in state.items():
        if "_quantizer." not in name:
            continue
        found = QUANTIZER.fullmatch(name)
        if found is None:
            raise SegdeployError(
                f"{path}: `{name}` belongs to a quantizer that is not known here",
                hint="known are the weight and input quantizers of convolutions, by their _amax",
            )
        if not bool((tensor >= 0).all()):
            raise SegdeployError(f"{path}: `{name}` is a magnitude below zero")
        ranges[f"{found['module']}.{found['kind']}"] = tensor
    return ranges


def _classes(meta: Mapping[str, Any], path: Path) -> ClassSet | None:
    """Class names as mmengine (`dataset_meta`) or mmcv (`CLASSES`, `PALETTE`) store them."""
    facts = meta.get("dataset_meta")
    if isinstance(facts, Mapping):
        names, palette = facts.get("classes"), facts.get("palette")
    else:
        names, palette = meta.get("CLASSES"), meta.get("PALETTE")
    if names is None:
        return None
    try:
        names = tuple(str(name) for name in names)
        if palette is None:
            return ClassSet(names, ClassSet.numbered(len(names)).palette)
        return ClassSet(names, tuple((int(r), int(g), int(b)) for r, g, b in palette))
    except (TypeError, ValueError, SegdeployError) as error:
        raise SegdeployError(f"{path}: its class names or palette are damaged ({error})") from error


def random_checkpoint(spec: ModelSpec, seed: int) -> Checkpoint:
    """Seeded random weights with which every layer works in its usual range and many classes win.

    He initialization; BatchNorm statistics from one pass over noise of several scales; logits
    spread to a standard deviation of 4, as trained ones. For speed and parity, never for accuracy.
    """
    classes = spec.classes or ClassSet.numbered(19)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = Segmentor(
            spec.method, len(classes), width=spec.width, head_channels=spec.head_channels
        )
        norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for norm in norms:
            norm.weight.uniform_(0.7, 1.4)
            norm.bias.normal_(1.0, 0.7)
            norm.momentum = 1.0
        coarse = torch.randn(2, 3, 9, 17)
        image = sum(
            torch.nn.functional.interpolate(coarse * scale, size=(128, 256), mode=mode)
            for scale, mode in ((1.0, "bilinear"), (0.5, "nearest"))
        )
        network.train()(image)
        for norm in norms:  # pooled branches hardly vary: no channel may amplify round-off
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            variance.copy_(torch.maximum(variance, (mean / 4) ** 2).clamp(min=1e-6))
        logits = network.eval()(image)
        last, bias = (
            network.decode_head.conv_seg,
            network.get_parameter("decode_head.conv_seg.bias"),
        )
        spread = logits.std(dim=(0, 2, 3)).clamp(min=1e-6)
        last.weight.mul_((4 / spread)[:, None, None, None])
        bias.copy_((bias - logits.mean(dim=(0, 2, 3))) * 4 / spread)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith(UNUSED_SUFFIX)}
    return Checkpoint(f"{RANDOM}{seed}", f"{RANDOM}{seed}", state, classes)


def build_network(spec: ModelSpec, checkpoint: Checkpoint) -> tuple[Segmentor, ClassSet]:
    """The network in eval mode with the checkpoint's weights, and the classes it tells apart.

    Raises:
        SegdeployError: a weight is missing, unknown or of another shape; MMSegmentation only warns.
    """
    count = checkpoint.class_count
    if spec.classes is not None and len(spec.classes) != count:
        raise SegdeployError(
            f"{checkpoint.name}: has {count} classes, {spec.name} has {len(spec.classes)}",
            hint=f"name just the method to take the classes from the file: {spec.method}",
        )
    network = Segmentor(spec.method, count, width=spec.width, head_channels=spec.head_channels)
    _check_shapes(spec.method, network.state_dict(), checkpoint)
    network.load_state_dict(checkpoint.state, strict=False)  # all but num_batches_tracked is there
    classes = checkpoint.classes or spec.classes or ClassSet.numbered(count)
    if len(classes) != count:
        raise SegdeployError(
            f"{checkpoint.name}: names {len(classes)} classes but its last layer has {count}"
        )
    return network.eval(), classes


def _check_shapes(method: Method, wanted: StateDict, checkpoint: Checkpoint) -> None:
    needed = {name: tensor for name, tensor in wanted.items() if not name.endswith(UNUSED_SUFFIX)}
    missing = _some(needed.keys() - checkpoint.state.keys())
    if missing:
        raise SegdeployError(
            f"{checkpoint.name}: the weight {missing} is missing",
            hint=f"is it a {method.display_name} with a MobileNetV2 backbone?",
        )
    unknown = _some(checkpoint.state.keys() - needed.keys())
    if unknown:
        raise SegdeployError(
            f"{checkpoint.name}: the weight {unknown} has no place in a {method.display_name}",
            hint="another method, or a changed architecture?",
        )
    for name, tensor in needed.items():
        found = checkpoint.state[name].shape
        if found != tensor.shape:
            raise SegdeployError(
                f"{checkpoint.name}: the weight `{name}` has shape {tuple(found)}, "
                f"wanted {tuple(tensor.shape)}",
                hint="a narrower or wider network is described by a TOML: see models/README.md",
            )


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" (and {len(ordered) - 1} more)" if len(ordered) > 1 else ""
    return f"`{ordered[0]}`{more}" if ordered else ""
