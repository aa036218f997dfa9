"""What a user can put right: one problem, one hint."""

from collections.abc import Iterator
from contextlib import contextmanager


class SegdeployError(Exception):
    """A problem that the user can solve; `cli.main` prints it as two lines.

    Args:
        problem: names the file, the value found and the value wanted.
        hint: what to do about it, in the imperative.
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(
            problem, hint
        )  # both, so that the error survives pickling between processes
        self.problem = problem
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.hint)

    def __str__(self) -> str:
        return self.problem

    def to_lines(self) -> str:
        """As a program prints it: the problem, and below it the hint if there is one."""
        lines = f"error: {self.problem}"
        return f"{lines}\nhint: {self.hint}" if self.hint else lines


class MisfitError(SegdeployError):
    """An engine that does not fit this machine, or is damaged; building it again helps."""


class MissingDataError(SegdeployError):
    """A data set that is not at hand; any other fault of one is no such error."""


class BusyError(SegdeployError):
    """More work is waiting than was allowed; a service answers 503 and its caller tries again."""


class OversizeError(SegdeployError):
    """An image that would take more memory than was allowed; a service answers 413."""


def _rebuild(kind: type[SegdeployError], problem: str, hint: str) -> SegdeployError:
    return kind(problem, hint=hint)


@contextmanager
def needs(*packages: str, extra: str) -> Iterator[None]:
    """Turn a heavy package that is missing or broken into an error that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in packages:
            raise
        raise SegdeployError(
            f"this needs the package {missing}, which is not installed",
            hint=f"pip install 'segdeploy[{extra}]'",
        ) from error
    except (ImportError, OSError) as error:  # installed, but its shared libraries do not load
        raise SegdeployError(
            f"the package {packages[0]} is installed but cannot be loaded ({error})",
            hint=f"pip install --force-reinstall 'segdeploy[{extra}]'",
        ) from error
