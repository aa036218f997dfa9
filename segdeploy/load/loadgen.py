"""A thin adapter to MLCommons' LoadGen: it issues the queries, our sessions answer them.

The package mlcommons-loadgen 6.0 has four scenarios. Latencies of single queries are not in its
Python interface; its trace has them, from the scheduled moment on (its results.cc).
"""

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from segdeploy.errors import SegdeployError, needs
from segdeploy.load.crew import IMAGES, Crew
from segdeploy.load.early_stopping import queries_needed
from segdeploy.load.issuing import Answer
from segdeploy.load.line import Query
from segdeploy.load.scenario import LoadOptions, Scenario
from segdeploy.load.trial import Trial
from segdeploy.telemetry import machine_state

NAMES = {
    Scenario.SINGLE_STREAM: "SingleStream",
    Scenario.MULTI_STREAM: "MultiStream",
    Scenario.OFFLINE: "Offline",
    Scenario.SERVER: "Server",
}
LOG, TRACE = "mlperf_log_detail.txt", "mlperf_log_trace.json"
BEGIN = '{"name":"Sample","cat":"default","ph":"b"'


def run_loadgen(crew: Crew, options: LoadOptions, per_second: float) -> Trial:
    """One run that LoadGen issues and judges.

    Args:
        crew: answers.
        options: of the load.
        per_second: images that the crew can answer; LoadGen draws its queries beforehand.
    """
    with needs("mlperf_loadgen", extra="loadgen"):
        import mlperf_loadgen as loadgen
    before = machine_state()
    with TemporaryDirectory(prefix="loadgen-") as folder:
        _run(loadgen, crew, _settings(loadgen, options, per_second), folder, options)
        after = machine_state()
        is_offline = options.scenario is Scenario.OFFLINE
        text = (Path(folder) / TRACE).read_text(encoding="utf-8")
        queries = read_trace(text, whole="sample_seq" if is_offline else "query_seq")
        said = read_log((Path(folder) / LOG).read_text(encoding="utf-8"))
    return Trial(
        options=options,
        queries=queries,
        seed=options.seed,
        rate=options.rate,
        before=before,
        after=after,
        foreign=said,
    )


def _settings(loadgen: Any, options: LoadOptions, per_second: float) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, NAMES[options.scenario])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * options.seconds)
    settings.max_duration_ms = int(1000 * options.max_seconds)
    is_server, is_offline = (options.scenario is s for s in (Scenario.SERVER, Scenario.OFFLINE))
    least = queries_needed(0 if is_server else 1, options.percent)
    settings.min_query_count = 1 if is_offline else least
    settings.schedule_rng_seed = settings.sample_index_rng_seed = options.seed
    settings.single_stream_expected_latency_ns = 1e9 / per_second
    settings.single_stream_target_latency_percentile = options.percent / 100
    settings.multi_stream_expected_latency_ns = 1e9 * options.samples / per_second
    settings.multi_stream_target_latency_percentile = options.percent / 100
    settings.multi_stream_samples_per_query = options.samples
    settings.offline_expected_qps = per_second
    if options.rate is not None and options.bound_s is not None:
        settings.server_target_qps = options.rate
        settings.server_target_latency_ns = int(1e9 * options.bound_s)
        settings.server_target_latency_percentile = options.percent / 100
    return settings


def _run(loadgen: Any, crew: Crew, settings: Any, folder: str, options: LoadOptions) -> None:
    waiting: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()
    errors: list[Exception] = []
    together = options.scenario is Scenario.MULTI_STREAM
    answers: list[Answer] = [crew.answer_together] if together else crew.answers

    def issue(samples: list[Any]) -> None:
        size = len(samples) if together else crew.batch
        for first in range(0, len(samples), size):
            waiting.put(samples[first : first + size])

    def complete(samples: list[Any]) -> None:
        responses = [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples]
        loadgen.QuerySamplesComplete(responses)

    threads = [
        threading.Thread(target=_work, args=(waiting, answer, complete, errors))
        for answer in answers
    ]
    for thread in threads:
        thread.start()
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(IMAGES, IMAGES, lambda _: None, lambda _: None)
    logs = loadgen.LogSettings()
    outputs = loadgen.LogOutputSettings()
    outputs.outdir = folder
    logs.log_output, logs.enable_trace = outputs, True
    try:
        loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
    finally:
        for _ in threads:
            waiting.put(None)
        for thread in threads:
            thread.join()
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
    if errors:
        raise errors[0]


def _work(
    waiting: "queue.SimpleQueue[list[Any] | None]",
    answer: Answer,
    complete: Callable[[list[Any]], None],
    errors: list[Exception],
) -> None:
    """Answer until there is no more; LoadGen never ends unless each of its queries is completed."""
    while (samples := waiting.get()) is not None:
        try:
            if not errors:
                answer([sample.index for sample in samples])
        except Exception as error:  # whatever it is, it is raised when LoadGen has ended
            errors.append(error)
        complete(samples)


def read_trace(text: str, *, whole: str = "query_seq") -> tuple[Query, ...]:
    """Queries of LoadGen's trace: each as long as its slowest sample, from the scheduled moment.

    Args:
        text: of the file.
        whole: what is one query; LoadGen's only query of the offline scenario is taken by samples.
    """
    queries: dict[int, Query] = {}
    for line in text.splitlines():  # the whole is no JSON (6.0), each line is
        if not line.startswith(BEGIN):
            continue
        event = json.loads(line.rstrip(","))
        said = event["args"]
        scheduled_s = event["ts"] / 1e6
        began_s, done_s = (
            scheduled_s + said[key] / 1e9 for key in ("issue_start_ns", "complete_ns")
        )
        known = queries.setdefault(said[whole], Query(scheduled_s, 0, began_s, done_s))
        known.done_s = max(known.done_s or 0.0, done_s)
    if not queries:
        raise SegdeployError("LoadGen's trace has no query", hint="--generator own")
    return tuple(queries[number] for number in sorted(queries))


def read_log(text: str) -> dict[str, Any]:
    """What LoadGen concluded, of its detailed log."""
    prefix = ":::MLLOG "
    lines = [json.loads(line[len(prefix) :]) for line in text.splitlines() if prefix in line[:9]]
    found = {line["key"]: line["value"] for line in lines}
    return {key: found[key] for key in found if key.startswith(("result_", "early_", "loadgen_v"))}
