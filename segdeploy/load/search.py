"""The largest load that an engine carries, found by trying."""

from collections.abc import Callable


def find_largest(
    passes: Callable[[int], bool], *, start: int, limit: int, confirmations: int = 1
) -> int:
    """The largest whole number that passes, and passes again; 0: not even 1 does.

    It doubles or halves until one passes and one does not, then halves the gap. What was found by
    many tries is lucky among them, so it has to pass anew; if it does not, the next smaller one has
    to, as MLPerf's search does (Inference Rules 0.5, "LoadGen Operation").

    Args:
        passes: tries a number; what is not decided does not pass.
        start: is tried first.
        limit: is taken for too much.
        confirmations: how often the number that was found has to pass again.
    """
    low, high = 0, limit
    number = min(max(start, 1), limit - 1)
    while high - low > 1:
        if passes(number):
            low = number
            number = 2 * number if high == limit else (low + high) // 2
        else:
            high = number
            number = high // 2 if low == 0 else (low + high) // 2
        number = min(max(number, low + 1), high - 1)
    while low and not all(passes(low) for _ in range(confirmations)):
        low -= 1
    return low
