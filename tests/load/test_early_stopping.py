"""MLPerf's rule, against the numbers of its rules and of logs that LoadGen wrote."""

import numpy as np
import pytest

from segdeploy.load.early_stopping import (
    estimate_percentile,
    is_beyond,
    is_within,
    over_allowed,
    queries_needed,
)


@pytest.mark.parametrize(
    ("over", "percent", "queries"),
    [  # LoadGen 6.0: "need to process at least"; 6636 is min_query_count of MLPerf Automotive
        (1, 90, 64), (1, 99, 662), (1, 99.9, 6636), (0, 99, 459),
    ],
)  # fmt: skip
def test_as_many_queries_are_needed_as_loadgen_says(over, percent, queries):
    assert queries_needed(over, percent) == queries


@pytest.mark.parametrize(
    ("queries", "discarded"),  # LoadGen 6.0: "processed at least 64 queries ... would discard"
    [(570, 39), (2048, 172), (2116, 178), (7469, 685)],
)
def test_as_many_are_discarded_as_loadgen_says(queries, discarded):
    assert over_allowed(queries, 90) == discarded + 1
    assert estimate_percentile(range(queries), 90) == queries - discarded - 1


def test_too_few_queries_have_no_percentile():
    assert estimate_percentile([1.0] * 63, 90) is None
    assert estimate_percentile([1.0] * 64, 90) == 1.0


@pytest.mark.parametrize("percent", [90, 99, 99.9])
@pytest.mark.parametrize("over", [0, 1, 7, 40])
def test_the_least_number_is_the_least(over, percent):
    needed = queries_needed(over, percent)

    assert is_within(over, needed, percent)
    assert not is_within(over, needed - 1, percent)
    assert over_allowed(needed, percent) == over


def test_a_run_is_never_both_within_and_beyond():
    found = {(is_within(over, 500, 99), is_beyond(over, 500, 99)) for over in range(501)}

    assert found == {(True, False), (False, False), (False, True)}


def test_wrong_answers_are_as_rare_as_promised():
    runs = np.random.default_rng(0).binomial(1000, 0.0101, 4000)  # a hair worse than 99 %

    assert np.mean([is_within(int(over), 1000, 99) for over in runs]) <= 0.012
