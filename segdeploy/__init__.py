"""segdeploy: MobileNetV2 segmentation models, out of PyTorch and into production."""

__version__ = "0.1.0"
