"""segdeploy: MobileNetV2 segmentation models, out of PyTorch and into production.

```python
import segdeploy

with segdeploy.open("model.plan", device="cuda:0") as engine, engine.session() as session:
    labels = session.run(images)  # (N, H, W, 3) uint8 -> (N, H, W) uint8
```
"""

from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.version import __version__

if TYPE_CHECKING:
    from segdeploy.runtime import Engine, RunOptions

__all__ = ["__version__", "open"]


def open(
    name: str | Path,
    device: str | None = None,
    *,
    rebuild: bool = False,
    options: "RunOptions | None" = None,
) -> "Engine":
    """Load an artifact by its file, or a model by its name: an engine that all threads share.

    Args:
        name: a .onnx, .ort or .plan file, or a model such as "demo".
        device: "cpu", or "cuda:0" for the first GPU; None: what the artifact is made for. Nothing
            falls back to another device.
        rebuild: build an engine that does not fit this machine again, from the graph beside it.
        options: how it is run.

    Raises:
        SegdeployError: there is no such thing, or it does not fit this machine.
    """
    from segdeploy.pipeline.segment import Opening, open_named
    from segdeploy.runtime import RunOptions
    from segdeploy.spec import Device

    chosen = None if device is None else Device(device)
    run = options or RunOptions()
    return open_named(str(name), Opening(device=chosen, rebuild=rebuild, run=run))
