"""The weights of a model that is timed or compared, where nobody names others."""

from segdeploy.artifacts import Store
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.recipes import load_model


def source_of(model: str, store: Store) -> Source:
    """The bundled ones, or seeded random ones, which take the same time."""
    is_bundled = load_model(model).checkpoint is not None
    return resolve_source(model, None if is_bundled else "random:0", store)
