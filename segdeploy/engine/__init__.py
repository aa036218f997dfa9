"""Engines: a graph, compiled by TensorRT or TensorRT-RTX."""
