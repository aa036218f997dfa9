"""LoadGen issues, we judge the same queries: both have to conclude the same."""

import json
import time
from types import SimpleNamespace

import pytest

from segdeploy.errors import SegdeployError
from segdeploy.load.loadgen import read_log, read_trace, run_loadgen
from segdeploy.load.scenario import Generator, LoadOptions, Scenario
from segdeploy.load.trial import Ruling

TRACE = """{"traceEvents":[
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":1000.5,\
"args":{"sample_seq":0,"query_seq":0,"sample_idx":3,"issue_start_ns":100,"complete_ns":5000000}},
{"name":"Sample","cat":"default","ph":"e", "pid":1,"id":0,"ts":6000.5},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":1,"ts":1000.5,\
"args":{"sample_seq":1,"query_seq":0,"sample_idx":1,"issue_start_ns":100,"complete_ns":7000000}},
{"name":"LastTrace"}
],
"""


def test_a_query_of_the_trace_is_as_long_as_its_slowest_sample():
    (query,) = read_trace(TRACE)

    assert query.scheduled_s == pytest.approx(0.0010005)
    assert query.latency_s == pytest.approx(0.007)
    assert query.began_s - query.scheduled_s == pytest.approx(1e-7)


def test_offline_takes_each_sample_for_itself():
    assert [q.latency_s for q in read_trace(TRACE, whole="sample_seq")] == pytest.approx(
        [0.005, 0.007]
    )


def test_a_trace_without_a_query_is_an_error():
    with pytest.raises(SegdeployError, match="no query"):
        read_trace('{"traceEvents":[\n{"name":"LastTrace"}\n')


def test_conclusions_are_read_off_the_log():
    lines = [("loadgen_version", "6.0.17"), ("num_errors", 0), ("result_validity", "VALID")]
    text = "\n".join(f":::MLLOG {json.dumps({'key': k, 'value': v})}" for k, v in lines)

    assert read_log(text + "\nnot a line") == {
        "loadgen_version": "6.0.17",
        "result_validity": "VALID",
    }


def crew(service_s: float):
    def answer(numbers):
        time.sleep(service_s * len(numbers))

    return SimpleNamespace(answers=[answer], answer_together=answer, batch=1)


@pytest.mark.parametrize(
    "options",
    [
        {"scenario": Scenario.SINGLE_STREAM},
        {"scenario": Scenario.SERVER, "rate": 400, "bound_ms": 500},
        {"scenario": Scenario.SERVER, "rate": 900, "bound_ms": 0.5},
        {"scenario": Scenario.OFFLINE},
    ],
    ids=str,
)
def test_loadgen_and_we_conclude_the_same(options):
    pytest.importorskip("mlperf_loadgen")
    asked = LoadOptions(**{"seconds": 0.5, "generator": Generator.LOADGEN, **options})

    found = run_loadgen(crew(0.001), asked, 900)

    said = found.foreign
    over = said.get("result_overlatency_query_count", 0)
    assert (len(found.queries), found.over) == (said["result_query_count"], over) or (
        asked.scenario is Scenario.OFFLINE and said["result_query_count"] == 1
    )
    if asked.scenario is Scenario.SERVER:
        assert (found.judge()[0] is Ruling.VALID) == (said["early_stopping_met"])
    if asked.scenario is Scenario.SINGLE_STREAM:
        assert found.estimate_ms == pytest.approx(said["early_stopping_latency_ss"] / 1e6)
    if asked.scenario is Scenario.OFFLINE:
        assert found.samples_per_s == pytest.approx(said["result_samples_per_second"], rel=0.01)


def test_a_failing_session_ends_loadgen_and_is_heard_of():
    pytest.importorskip("mlperf_loadgen")

    def fail(_numbers):
        raise SegdeployError("out of memory")

    broken = SimpleNamespace(answers=[fail], answer_together=fail, batch=1)
    asked = LoadOptions(
        scenario=Scenario.OFFLINE, seconds=0.1, max_seconds=1, generator=Generator.LOADGEN
    )

    with pytest.raises(SegdeployError, match="out of memory"):
        run_loadgen(broken, asked, 100)
