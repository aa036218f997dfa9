"""What has to be closed is a context manager."""

from types import TracebackType
from typing import Protocol, Self


class Closing(Protocol):
    """Closed when its `with` block ends."""

    def close(self) -> None:
        """Free it; once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
