"""Frozen dataclasses read back from JSON: every value of exactly the declared type, or an error."""

import types
from collections.abc import Mapping, Set
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_record(kind: type[T], values: Any, where: str, *, added: Set[str] = frozenset()) -> T:
    """Build the dataclass `kind` of what `json.loads` gave for its `asdict`; nothing is trusted.

    Fields may be strings and classes of strings, integers, floats, booleans, other dataclasses,
    NamedTuples, tuples of these, mappings from strings to these, and None beside any of them.

    Args:
        kind: what to build.
        values: of a file.
        where: begins an error that is not of one key.
        added: keys, at any depth, that older files lack: the field's default stands in.

    Raises:
        TypeError: a value is of another type than its field.
        ValueError: a key is unknown or missing, or an enumeration has no such member.
    """
    return cast(T, _Reader(added).read(kind, values, where))


@dataclass(frozen=True)
class _Reader:
    added: Set[str]

    def read(self, kind: Any, value: Any, where: str) -> Any:
        origin = get_origin(kind)
        if origin in (types.UnionType, Union):  # X | None
            (inner,) = (choice for choice in get_args(kind) if choice is not types.NoneType)
            return None if value is None else self.read(inner, value, where)
        if origin is tuple:
            return self._read_tuple(get_args(kind), value, where)
        if origin is Mapping:
            key, inner = get_args(kind)
            pairs = _exactly(dict, value, where).items()
            return {self.read(key, k, where): self.read(inner, v, f"{where}.{k}") for k, v in pairs}
        if is_dataclass(kind):
            return self._read_dataclass(kind, _exactly(dict, value, where), where)
        if issubclass(kind, tuple):  # NamedTuple
            return kind(*self._read_tuple(tuple(_hints(kind).values()), value, where))
        if issubclass(kind, str) and kind is not str:  # an enumeration, a Device
            return kind(_exactly(str, value, where))
        if kind is float and type(value) is int:  # 1.0 may be written as 1
            return float(value)
        return _exactly(kind, value, where)

    def _read_tuple(self, kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
        items = _exactly(list, value, where)
        if kinds[1:] == (...,):
            kinds = kinds[:1] * len(items)
        if len(items) != len(kinds):
            raise ValueError(f"{where} has {len(items)} values, not {len(kinds)}")
        return tuple(self.read(kind, item, where) for kind, item in zip(kinds, items, strict=True))

    def _read_dataclass(self, kind: Any, values: Mapping[str, Any], where: str) -> Any:
        hints = _hints(kind)
        for name in sorted(values.keys() - hints.keys()):
            raise ValueError(f"{where} has the unknown key {name!r:.60}")
        for name in sorted(hints.keys() - values.keys() - self.added):
            raise ValueError(f"{where} lacks the key {name!r}")
        return kind(**{name: self.read(hints[name], value, name) for name, value in values.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _exactly(kind: type[T], value: Any, where: str) -> T:
    if type(value) is not kind:  # not isinstance: true is an int
        raise TypeError(f"{where} is {value!r:.60}, not {kind.__name__}")
    return value
