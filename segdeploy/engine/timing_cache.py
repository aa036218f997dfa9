"""Measured kernel times, kept for the next build on the same GPU with the same TensorRT.

A cache can only save time. Nothing about its file stops a build: what cannot be used is left out
with a warning.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segdeploy.artifacts import writing
from segdeploy.errors import SegdeployError


class TimingCache:
    """The cache of one build; `warnings` says what could not be used or kept."""

    def __init__(self, config: Any, path: Path) -> None:
        """Give `config` what is on disk, or an empty cache."""
        self.warnings: list[str] = []
        self._config = config
        self._path = path
        for data in self._candidates():
            cache = config.create_timing_cache(data)
            # None: damaged. False: of another GPU or version.
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                self._cache = cache
                return
            self.warnings.append(f"{path}: is damaged or of another GPU or TensorRT, not used")
        self._cache = None

    def _candidates(self) -> Iterable[bytes]:
        found = self._read()
        return (found, b"") if found else (b"",)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            self.warnings.append(f"{self._path}: cannot be read ({error.strerror})")
            return b""

    def save(self) -> None:
        """Write what was measured, together with what another process has written meanwhile.

        Two that write at the same moment may lose the entries of one: they are measured again.
        """
        if self._cache is None:
            return
        if found := self._read():
            other = self._config.create_timing_cache(found)
            if other is not None:
                self._cache.combine(other, ignore_mismatch=False)  # False: foreign, as above
        serialized = self._cache.serialize()
        if serialized is None:
            self.warnings.append(f"{self._path}: not written, TensorRT gave nothing to keep")
            return
        try:
            with writing(self._path) as temporary:
                temporary.write_bytes(memoryview(serialized))
        except SegdeployError as error:  # the plan is built all the same
            self.warnings.append(error.problem)
