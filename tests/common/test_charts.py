import re
from xml.etree import ElementTree

import pytest

from common import charts


def drawing(html: str) -> ElementTree.Element:
    """The chart's first SVG, which must be well-formed."""
    found = re.search(r"<svg.*?</svg>", html, re.S)
    assert found
    return ElementTree.fromstring(found[0])  # noqa: S314 - our own


def points(html: str) -> list[tuple[float, float]]:
    line = drawing(html).find("polyline")
    assert line is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]


def chart(*series: list[tuple[float, float]]) -> str:
    lines = [{"name": f"line {number}", "points": each} for number, each in enumerate(series)]
    return charts.line(title="Loss", x_label="step", y_label="nats", series=lines)


def test_a_falling_loss_falls_and_stays_inside_the_frame() -> None:
    places = points(chart([(0, 2.0), (50, 1.1), (100, 0.7)]))
    assert [x for x, _y in places] == sorted(x for x, _y in places)
    assert [y for _x, y in places] == sorted(y for _x, y in places)
    assert all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in places)


@pytest.mark.parametrize("series", [[], [[]], [[(1, float("nan"))]], [[(float("inf"), 1)]]])
def test_a_chart_without_data_says_so(series: list[list[tuple[float, float]]]) -> None:
    assert "Not enough data yet." in chart(*series)


@pytest.mark.parametrize("series", [[(0, 1.0)], [(0, 0.0), (1, 0.0)], [(5, -3.2), (5, 9e9)], [(0, 1e-12), (1, 2e-12)]])
def test_odd_ranges_are_drawn(series: list[tuple[float, float]]) -> None:
    assert points(chart(series))


def test_several_lines_have_a_legend() -> None:
    html = chart([(0, 1.0), (1, 0.5)], [(0, 1.2), (1, 0.9)])
    assert len(drawing(html).findall("polyline")) == 2
    assert "line 0" in html and "line 1" in html and "nats" in html


def test_a_reliability_diagram_shows_counts_and_intervals() -> None:
    bins = [{"count": 0, "confidence": None, "accuracy": None} for _bin in range(15)]
    bins[14] = {"count": 100, "confidence": 0.97, "accuracy": 0.9}
    html = charts.reliability(bins, bins, "text model")
    assert "83–94%" in html.replace("\n", "")  # Wilson's interval for 90 of 100
    assert len(drawing(html).findall(".//circle")) == 1
    assert "before temperature" in html


def test_names_are_escaped() -> None:
    nasty = "<script>alert(1)</script>"
    heat = charts.heatmap({("a", "a"): 5, ("a", "b"): 2}, {"a": nasty})
    assert nasty not in heat
    assert "2 (29%)" in heat


def test_a_large_heat_map_keeps_the_categories_with_mistakes() -> None:
    counts = {(f"c{number:02}", f"c{number:02}"): 10 for number in range(40)}
    heat = charts.heatmap({**counts, ("c39", "c38"): 4}, {})
    assert "c39" in heat and "10 categories with fewer mistakes are left out." in heat
