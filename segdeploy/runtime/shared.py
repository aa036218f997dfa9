"""Engines whose one loaded model serves all threads: those of ONNX Runtime and PyTorch."""

from typing import Protocol
from weakref import WeakSet

from segdeploy.artifacts import Manifest
from segdeploy.closing import Closing
from segdeploy.runtime.lease import Lease
from segdeploy.runtime.session import Session
from segdeploy.spec import Device


class Shareable(Session, Protocol):
    """A session whose loaded model others can run at the same time."""

    def share(self) -> "Shareable":
        """Another session over the same loaded model."""


class SharedEngine(Closing):
    """A loaded model; a session of it costs nothing, and any number run at the same time."""

    def __init__(self, loaded: Shareable) -> None:
        self.manifest: Manifest = loaded.manifest
        self.device: Device = loaded.device
        self._lease = Lease(f"the engine of {loaded.manifest.model}")
        self._loaded = loaded
        self._sessions: WeakSet[Session] = WeakSet()

    def session(self) -> Session:
        """A new session for one thread."""
        with self._lease.use(wait=True):
            made = self._loaded.share()
            self._sessions.add(made)
            return made

    def close(self) -> None:
        """Free it and its sessions; once."""
        self._lease.end(self._free)

    def _free(self) -> None:
        for session in (*self._sessions, self._loaded):
            session.close()
