"""The search for few floating layers, and how it ends, on networks that exist on paper only."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision
from segdeploy.verdict import (
    Budget,
    Candidate,
    Found,
    LayerError,
    VerdictKind,
    is_faster,
    judge,
    pareto,
    search,
)

FLOOR = AccuracyFloor.parse("99%")
REFERENCE = Score(80.0)  # so that 79.2 is enough
FP32 = Candidate(precision=Precision.FP32, score=REFERENCE, latency_ms=(10.0,) * 9)
FP16 = replace(FP32, precision=Precision.FP16, latency_ms=(7.0,) * 9)
INT8 = Candidate(
    precision=Precision.INT8, floating_macs=0.0, score=Score(79.5), latency_ms=(4.0,) * 9
)
LAYERS = tuple(LayerError(f"layer{k:02}", 0.01 + 0.001 * (k % 7), 1 / (k + 1)) for k in range(50))


@dataclass
class Network:
    """Each layer that is int8 costs so many points of mIoU; a measurement takes a second."""

    costs: dict[str, float]
    now_s: float = 0.0
    asked: list[frozenset[str]] = field(default_factory=list)
    ranked: int = 0

    def measure(self, floating: frozenset[str]) -> Candidate:
        self.now_s += 1
        self.asked.append(floating)
        lost = sum(cost for name, cost in self.costs.items() if name not in floating)
        macs = sum(layer.macs_share for layer in LAYERS if layer.name in floating)
        return Candidate(
            precision=Precision.INT8,
            floating=tuple(sorted(floating)),
            floating_macs=macs,
            score=Score(80 - lost),
        )

    def rank(self) -> tuple[LayerError, ...]:
        self.ranked += 1
        return LAYERS

    def find(self, seconds: float = 1e9, known: Iterable[Candidate] = ()) -> Found:
        budget = Budget.from_now(seconds, lambda: self.now_s)
        return search(self.rank, self.measure, meets, budget=budget, known=known)


def meets(candidate: Candidate) -> bool:
    return not FLOOR.misses(REFERENCE, candidate.score)


def chosen(found: Found) -> Candidate:
    return judge([FP32], found, FLOOR, REFERENCE).chosen


def test_all_int8_is_tried_first_and_alone_if_it_is_enough():
    network = Network({"layer00": 0.5})

    found = network.find()

    assert network.asked == [frozenset()]
    assert network.ranked == 0
    assert found.is_complete


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 49])
def test_the_fewest_of_the_worst_layers_are_found(count):
    network = Network({layer.name: 1.0 for layer in LAYERS[:count]})

    found = network.find()

    assert chosen(found).floating == tuple(layer.name for layer in LAYERS[:count])
    assert found.is_complete


def test_a_harmless_layer_goes_back_to_int8():
    network = Network({"layer00": 1.0, "layer03": 1.0})  # the ranking holds 1 and 2 for worse

    found = network.find()

    assert chosen(found).floating == ("layer00", "layer03")


def test_layers_with_most_multiplications_go_back_first():
    network = Network({"layer05": 1.0})

    network.find()

    back = [frozenset(layer.name for layer in LAYERS[:6]) - floating for floating in network.asked]
    assert [min(names) for names in back if len(names) == 1][:2] == ["layer05", "layer04"]


def test_the_search_takes_few_measurements():
    network = Network({layer.name: 1.0 for layer in LAYERS[:3]})

    network.find()

    assert len(network.asked) <= 10


def test_nothing_is_measured_twice():
    network = Network({layer.name: 1.0 for layer in LAYERS[:12]})

    network.find()

    assert len(set(network.asked)) == len(network.asked)


def test_a_network_that_int8_cannot_keep_ends_the_search():
    network = Network({layer.name: 1.0 for layer in LAYERS})

    found = network.find()

    assert found.is_complete
    assert not any(map(meets, found.candidates))


def test_the_budget_ends_the_search_with_the_best_so_far():
    network = Network({layer.name: 1.0 for layer in LAYERS[:3]})

    found = network.find(seconds=3.5)

    assert network.now_s <= 3.5
    assert not found.is_complete
    assert chosen(found).floating


def test_without_time_all_int8_is_measured_all_the_same():
    network = Network({"layer00": 1.0})

    found = network.find(seconds=0)

    assert network.asked == [frozenset()]
    assert not found.is_complete


@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_killed_search_goes_on(killed_after):
    costs = {layer.name: 1.0 for layer in LAYERS[:5]}
    whole = Network(costs)
    expected = whole.find()

    second = Network(costs)
    found = second.find(known=expected.candidates[:killed_after])

    assert second.asked == whole.asked[killed_after:]
    assert found == expected


def test_a_search_is_repeatable():
    costs = {layer.name: 0.3 for layer in LAYERS[:9]}

    assert Network(costs).find() == Network(costs).find()


def test_the_floor_of_a_class_counts():
    floor = AccuracyFloor.parse("99%", ["pole=-1"])
    reference = Score(80.0, {"pole": 40.0})
    lost = replace(INT8, score=Score(80.0, {"pole": 38.0}))

    verdict = judge([FP32], Found((lost,), True), floor, reference)

    assert verdict.kind is VerdictKind.NOT_MET
    assert "IoU of pole is 38.000, wanted 39.000" in str(verdict)


def test_a_fast_engine_that_keeps_the_floor_meets_it():
    verdict = judge([FP32, FP16], Found((INT8,), True), FLOOR, REFERENCE)

    assert verdict.kind is VerdictKind.MET
    assert verdict.chosen == INT8
    assert verdict.sentences == (
        "Every layer that can be int8 is; mIoU is 79.50, fp32's is 80.00.",
        "A step takes 4.00 ms, 1.75 times as fast as fp16 (7.00 ms).",
    )


def test_a_verdict_says_what_floating_layers_cost():
    bad = replace(INT8, score=Score(70.0), artifact_bytes=1_000_000)
    good = replace(
        INT8,
        floating=("a", "b"),
        floating_macs=0.0213,
        latency_ms=(4.5,) * 9,
        artifact_bytes=1_200_000,
    )

    verdict = judge([FP32], Found((bad, good), True), FLOOR, REFERENCE)

    assert verdict.sentences[:2] == (
        "2 layers stay floating (a, b), with them 2.1% of the multiplications; "
        "mIoU is 79.50, fp32's is 80.00.",
        "That costs +0.50 ms and +0.20 MB against all int8.",
    )


def test_a_floor_that_cannot_be_met_ends_with_the_best():
    worse = replace(INT8, score=Score(60.0))
    best = replace(INT8, floating=("a",), floating_macs=0.1, score=Score(75.0))

    verdict = judge([FP32, FP16], Found((worse, best), True), FLOOR, REFERENCE)

    assert verdict.kind is VerdictKind.NOT_MET
    assert verdict.chosen == best
    assert "mIoU is 75.000, wanted 79.200" in verdict.sentences[0]
    assert verdict.sentences[-1] == "fp16 is accurate enough, in 7.00 ms a step."


def test_a_search_that_the_budget_ended_says_so():
    verdict = judge([FP32], Found((replace(INT8, score=Score(1.0)),), False), FLOOR, REFERENCE)

    assert "The budget ended the search after 1 candidate" in str(verdict)


def test_int8_that_is_not_faster_than_fp16_does_not_pay():
    slow = replace(INT8, latency_ms=(6.9,) * 9)

    verdict = judge([FP32, FP16], Found((slow,), True), FLOOR, REFERENCE)

    assert verdict.kind is VerdictKind.DOES_NOT_PAY
    assert verdict.chosen == slow
    assert verdict.sentences[:2] == (
        "fp16 is as fast or faster here: 7.00 ms a step, int8 6.90 ms.",
        "Use fp16.",
    )


def test_fp16_that_misses_the_floor_is_no_rival():
    inaccurate = replace(FP16, score=Score(50.0), latency_ms=(1.0,) * 9)
    unscored = replace(FP16, score=None, latency_ms=(1.0,) * 9)

    kinds = [
        judge([FP32, rival], Found((INT8,), True), FLOOR, REFERENCE).kind
        for rival in (inaccurate, unscored)
    ]

    assert kinds == [VerdictKind.MET, VerdictKind.MET]


def test_noise_is_no_speed():
    noisy = replace(INT8, latency_ms=(5.0, 9.0, 14.0, 6.0, 12.0))
    fp32 = replace(FP32, latency_ms=(10.0, 6.0, 13.0, 9.5, 11.0))

    assert not is_faster(noisy, fp32)
    assert is_faster(replace(INT8, latency_ms=(4.0, 4.1, 5.9, 4.2, 4.0)), fp32)
    assert not is_faster(replace(INT8, latency_ms=()), fp32)


def test_three_percent_do_not_pay():
    assert not is_faster(replace(INT8, latency_ms=(9.75,) * 9), FP32)
    assert is_faster(replace(INT8, latency_ms=(9.65,) * 9), FP32)


def test_the_front_holds_what_nothing_beats():
    slower = replace(INT8, floating=("a",), latency_ms=(5.0,), score=Score(79.9))
    beaten = replace(INT8, floating=("b",), latency_ms=(6.0,), score=Score(79.7))
    unscored = replace(FP16, score=None)

    front = pareto([FP32, beaten, slower, INT8, unscored])

    assert front == (INT8, slower, FP32)


@pytest.mark.parametrize(
    "change",
    [
        {"floating_macs": 1.1},
        {"floating_macs": float("nan")},
        {"latency_ms": (0.0,)},
        {"latency_ms": (float("inf"),)},
    ],
)
def test_a_candidate_of_impossible_numbers_is_refused(change):
    with pytest.raises(SegdeployError):
        replace(INT8, **change)


def test_a_budget_runs_from_its_start():
    now = [5.0]
    budget = Budget.from_now(10, lambda: now[0])

    now[0] = 12.0

    assert budget.left_s == 3
