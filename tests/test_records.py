"""Records come back from JSON as they were, and nothing else comes back at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import pytest

from segdeploy.records import read_record


class Colour(StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Outer:
    name: str
    flag: bool
    colour: Colour
    place: Point | None
    inner: tuple[Inner, ...]
    pair: tuple[str, int]
    later: int = 3
    named: Mapping[Colour, Inner | None] = field(default_factory=dict)


RECORD = Outer(
    "a", True, Colour.RED, Point(1, 2), (Inner(0.5), Inner(2.0)), ("b", 1), 3, {Colour.RED: None}
)


def as_json(**changed: Any) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(RECORD))) | changed


def test_a_record_survives_json() -> None:
    found = read_record(Outer, as_json(), "it")

    assert found == RECORD
    assert isinstance(found.place, Point)
    assert isinstance(found.colour, Colour)


def test_none_is_read_where_it_may_be() -> None:
    assert read_record(Outer, as_json(place=None), "it").place is None


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    assert read_record(Inner, {"value": 1}, "it") == Inner(1.0)


def test_a_key_that_was_added_may_be_absent_and_no_other() -> None:
    old = as_json()
    del old["later"]

    assert read_record(Outer, old, "it", added={"later"}) == RECORD
    with pytest.raises(ValueError, match="it lacks the key 'later'"):
        read_record(Outer, old, "it")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"name": None}, "name is None, not str"),
        ({"flag": 1}, "flag is 1, not bool"),
        ({"later": True}, "later is True, not int"),
        ({"colour": "blue"}, "'blue' is not a valid Colour"),
        ({"place": [1]}, "place has 1 values, not 2"),
        ({"place": [1, 2.0]}, "place is 2.0, not int"),
        ({"inner": {"value": 1}}, "inner is .* not list"),
        ({"inner": [{"value": 1, "more": 2}]}, "inner has the unknown key 'more'"),
        ({"pair": ["b", 1, 2]}, "pair has 3 values, not 2"),
        ({"named": []}, "named is .* not dict"),
        ({"named": {"blue": None}}, "'blue' is not a valid Colour"),
        ({"named": {"red": {"value": "1"}}}, "value is '1', not float"),
        ({"named": {"red": 1}}, "named.red is 1, not dict"),
        ({"odd": 1}, "it has the unknown key 'odd'"),
    ],
)
def test_anything_else_is_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        read_record(Outer, as_json(**changed), "it")
