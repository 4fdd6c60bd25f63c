"""The trend of a suite: the last fully scored runs up to the one of the page, with verdicts as shapes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from batchkit.evaluation.results import SUMMARY, Metric
from batchkit.reports.charts import Domain
from batchkit.reports.evaluation_trend import RUNS, read_series, trends
from batchkit.reports.trend_chart import TrendPoint, trend
from batchkit.store import evaluations
from batchkit.store.evaluations import Arm
from tests.reports.test_evaluation_headline import make_change, make_summary


def make_run(number, mean, verdict="passed", *, model="small", version="0" * 64):
    """Return the summary of a run with one metric."""
    metric = Metric("accuracy", "prompt", model, None, 100, mean, mean - 0.05, mean + 0.05, "Wilson", 0)
    of_slice = replace(metric, slice="language=de", mean=0.0)
    return make_summary(verdict, run=f"s-{number}", metrics=(metric, of_slice), suite_version=version)


def drawn(chart, tag):
    """Return the attributes of a chart's shapes."""
    root = ET.fromstring(str(chart))  # noqa: S314 - the charts are our own
    return [element.attrib for element in root.iter() if element.tag == tag]


def test_a_trend_has_a_mark_for_each_run_whose_shape_says_what_is_known():
    """Colour is not the only sign: alarms and incomparable runs have shapes of their own."""
    points = [
        TrendPoint(place, 0.5, 0.6, 0.7, verdict, f"<{verdict}>")
        for place, verdict in enumerate(("first", "passed", "alarm", "incomparable"))
    ]
    chart = trend(Domain(0.0, 1.0), points, places=4, description="a <trend>")
    marks = drawn(chart, "path")

    assert [mark["class"] for mark in marks] == ["fill-main", "fill-main", "fill-bad", "fill-open"]
    assert len({mark["d"] for mark in marks}) == 3
    assert [line["class"] for line in drawn(chart, "line")] == ["grid"] * 3 + ["path"] * 3 + ["interval"] * 4
    assert "&lt;alarm&gt;" in str(chart)
    assert drawn(chart, "svg")[0]["aria-label"] == "a <trend>"


def test_each_metric_has_a_chart_and_a_changed_suite_a_line():
    """Slices have none; the description says the first, the lowest and the last mean, and in how many runs its alarm went off."""
    of_other = replace(
        make_run(3, 0.85, "regressed", version="1" * 64), changes=(make_change(model="m9", is_alarm=True),)
    )
    fallen = replace(make_run(2, 0.8, "regressed"), slice_changes=(make_change(slice="a=b", is_alarm=True),))
    series = [make_run(1, 0.9, "first"), fallen, of_other]
    found = trends(series, series[-1])

    assert found is not None
    assert found.title == "The last 3 runs of s"
    (chart,) = found.charts
    assert chart.title == "accuracy, small: 0.850"
    assert drawn(chart.chart, "svg")[0]["aria-label"] == (
        "accuracy of small in 3 runs: first 0.900, lowest 0.800, last 0.850; 1 run with an alarm"
    )
    assert sum(line["class"] == "reference" for line in drawn(chart.chart, "line")) == 1


def test_the_largest_falls_are_drawn_first_and_only_a_few():
    """A suite with many models does not fill the page with charts."""
    models = [f"m{number}" for number in range(10)]
    metrics = tuple(make_run(1, 0.9, model=model).metrics[0] for model in models)
    change = make_change(0.5, model="m9")
    series = [make_summary("passed", run=f"s-{number}", metrics=metrics, changes=(change,)) for number in range(RUNS)]
    found = trends(series, series[-1])

    assert found is not None
    assert [chart.title for chart in found.charts][:2] == ["accuracy, m9: 0.900", "accuracy, m0: 0.900"]
    assert len(found.charts) == 8
    assert found.note.endswith("2 more are not drawn.")
    assert sum(len(chart.chart) for chart in found.charts) < 140_000


def test_one_run_has_no_trend():
    """Two runs are needed, each with the metric."""
    assert trends([make_run(1, 0.9)], make_run(1, 0.9)) is None
    assert trends([make_run(1, 0.9, model="other"), make_run(2, 0.9)], make_run(2, 0.9)) is None


def store_run(runner, number, *, fully_scored=True, origin=None):
    """Insert a finished run of the suite, or one outside the series that is derived from ``origin``; return its summary."""
    found = make_run(number, 0.9)
    values = {"name": found.run, "suite_version": "0" * 64, "definition": "{}", "at": float(number)}
    with runner.store.write() as connection:
        if origin is None:
            arms = [Arm("prompt", "d", "small")]
            evaluation = evaluations.begin(connection, suite="s", arms=arms, samples=1, scheduled_for=None, **values)
        else:
            scored = evaluations.find(connection, origin)
            assert scored is not None
            evaluation = evaluations.derive(connection, scored, **values)
        assert evaluation is not None
        evaluations.finish(
            connection,
            evaluation.id,
            verdict="passed" if fully_scored else "unscored",
            summary=SUMMARY.dump_json(found).decode(),
            fully_scored=fully_scored,
            at=float(number),
        )
    return found


def test_the_series_is_the_last_thirty_fully_scored_runs_up_to_this_one(runner):
    """Unscored and later runs are not in it, nor those outside the series, whose pages show the series without them."""
    stored = {number: store_run(runner, number, fully_scored=number != 20) for number in range(1, 36)}
    rescored = store_run(runner, 99, origin="s-35")
    names = [run.run for run in read_series(runner, stored[34])]

    assert len(names) == RUNS
    assert names[-2:] == ["s-33", "s-34"]
    assert {"s-20", "s-35", "s-99"}.isdisjoint(names)
    assert [run.run for run in read_series(runner, rescored)][-1] == "s-35"
    assert [run.run for run in read_series(runner, stored[20])][-1] == "s-19"
    assert [run.run for run in read_series(runner, stored[1])] == ["s-1"]
