"""Charts: from numbers to markup."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from batchkit.reports import charts
from batchkit.reports.charts import Domain, Part


def shapes(chart, tag):
    """Return the shapes of a kind, with their attributes."""
    root = ET.fromstring(str(chart))  # noqa: S314 - the charts are our own
    return [element.attrib for element in root.iter() if element.tag == tag]


def test_the_parts_of_a_bar_follow_each_other():
    """Widths are shares of the whole, each part begins where the previous one ends, and zero is not drawn."""
    drawn = shapes(charts.bar([Part("good", 30), Part("none", 0), Part("bad", 10)], 40), "rect")

    assert [(part["class"], part["x"], part["width"]) for part in drawn] == [
        ("good", "0%", "75%"),
        ("bad", "75%", "25%"),
    ]


def test_a_bar_of_nothing_is_empty():
    """A whole of zero draws no part, and causes no division by zero."""
    assert shapes(charts.bar([Part("good", 0)], 0), "rect") == []


def test_labels_are_escaped():
    """A label with markup is shown literally."""
    chart = str(charts.columns([("<script>alert(1)</script>", 3)], description='a "quoted" & <told> story'))

    assert "<script>" not in chart
    assert "&lt;script&gt;" in chart
    assert 'aria-label="a &#34;quoted&#34; &amp; &lt;told&gt; story"' in chart


def test_a_histogram_is_as_high_as_its_counts():
    """The highest column fills the plot, half the count is half as high, and a column of one is still visible."""
    heights = [
        float(column["height"])
        for column in shapes(charts.columns([("a", 1_000), ("b", 500), ("c", 1), ("d", 0)], description=""), "rect")
    ]

    assert heights[0] == 2 * heights[1]
    assert heights[2] == 1.5
    assert heights[3] == 0


def test_a_whisker_is_at_its_numbers():
    """The dot is on the mean, the line from the lower to the upper bound, and values beyond the scale are on its edge."""
    chart = charts.whisker(Domain(-1, 1), -3, 0, 0.5)

    assert shapes(chart, "circle")[0]["cx"] == "50%"
    interval = next(line for line in shapes(chart, "line") if line["class"] == "whisker")
    assert (interval["x1"], interval["x2"]) == ("0%", "75%")


def test_a_staircase_rises_at_its_times():
    """The line stays at the old count until a time, and then rises to the new one."""
    chart = charts.staircase(Domain(0, 100), [("main", [(50, 10.0), (75, 20.0)])], 20, description="")
    (line,) = [path["d"] for path in shapes(chart, "path") if path["class"] == "line main"]

    assert re.fullmatch(r"M0 130H500\.0V65\.0H750\.0V0\.0H1000", line)


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (20, ["00:00:00", "00:00:05", "00:00:10", "00:00:15", "00:00:20"]),
        (3_600, ["00:00", "00:10", "00:20", "00:30", "00:40", "00:50", "01:00"]),
        (
            86_400 * 3,
            ["1 Jan 00:00", "1 Jan 12:00", "2 Jan 00:00", "2 Jan 12:00", "3 Jan 00:00", "3 Jan 12:00", "4 Jan 00:00"],
        ),
        (86_400 * 30, ["1 Jan", "8 Jan", "15 Jan", "22 Jan", "29 Jan"]),
        (0, ["00:00:00"]),
    ],
)
def test_times_on_an_axis_are_round(seconds, labels):
    """Steps are round times of clocks and calendars, and there are few of them."""
    assert [tick.label for tick in charts.time_ticks(Domain(0, seconds))] == labels


@pytest.mark.parametrize(
    ("most", "labels"), [(1, ["0", "1"]), (964, ["0", "500"]), (20_000, ["0", "5,000", "10k", "15k", "20k"])]
)
def test_counts_on_an_axis_are_round(most, labels):
    """Steps are 1, 2 or 5 times a power of ten, and never fractions."""
    assert [tick.label for tick in charts.number_ticks(most)] == labels
