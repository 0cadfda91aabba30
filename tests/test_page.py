"""Pages are whole, escape what they are given, and need nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from math import inf

from deepchip.page import (
    Bar,
    bar_chart,
    heading,
    html_table,
    line_chart,
    listing,
    page,
    text,
    tiles,
)

_VOID = ("meta", "link", "br", "line", "circle", "path")


class Checker(HTMLParser):
    """Checks that elements are closed in order, and collects what is said in each."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())


def parsed(html):
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_a_page_of_everything():
    table = html_table(["layer", "share"], [["<conv>", Bar("40 %", 0.4)], ["fc", Bar("-", inf)]])
    chart = line_chart([3.0, inf, -1.0], ["a", "b", 'c"'], "dB")
    found = parsed(page("a & b", heading("Layers"), text("words"), table, chart))
    assert found.texts["title"][0] == "a & b"
    assert found.texts["h2"] == ["Layers"]
    assert found.texts["td"] == ["<conv>", "40 %", "fc", "-"]
    assert [value for name, value in found.attributes if name == "style"] == [
        "--share:40.0%", "--share:0.0%",
    ]  # fmt: skip
    # The infinite value has no mark; axis from the least to the largest, which is above.
    assert [t.split(":")[0] for t in re.findall(r"<title>(.*?)</title>", chart)] == ["a", "c&quot;"]
    assert found.texts["span"] == ["3", "1", "-1", "first", "last layer, dB"]


def test_nothing_is_fetched():
    html = page("t", html_table(["a"], [["1"]]), line_chart([1.0], ["a"], "ms"))
    assert not re.search(r"(src|href)=|https?:|@import|url\(", html)


def test_a_chart_over_time():
    """Ten seconds, whose middle is marked; values between 0 and 50 in a drawing of 1000 by 1000."""
    chart = line_chart(
        [0.0, 50.0, 25.0], ["a", "b", "c"], "MB", ends=("0 s", "10 s"), at=[0, 2.5, 10], marks=[5]
    )
    found = parsed(chart)
    assert found.texts["span"] == ["50", "25", "0", "0 s", "10 s, MB"]
    assert '<path d="M0.0 1000.0 L250.0 0.0 L1000.0 500.0"/>' in chart
    assert '<line x1="500.0" x2="500.0" y1="0" y2="1000"/>' in chart


def test_a_chart_of_nothing_and_of_much():
    parsed(line_chart([], [], "ms"))
    parsed(line_chart([inf], ["a"], "ms"))
    assert "<title>" not in line_chart([1.0] * 101, ["a"] * 101, "ms")


def test_bars_tiles_and_lists():
    html = page("t", bar_chart([("<a>", 1.0, "1 ms"), ("b", 4.0, "4 ms")]), bar_chart([]),
                tiles([("FPS", "12 & more")]), listing(["x < y"]))  # fmt: skip
    found = parsed(html)
    assert found.texts["dt"] == ["<a>", "b", "FPS"]
    assert found.texts["dd"] == ["1 ms", "4 ms", "12 & more"]
    assert found.texts["li"] == ["x < y"]
    assert [value for name, value in found.attributes if name == "style"] == [
        "--length:25.0%", "--length:100.0%",
    ]  # fmt: skip


def test_tables_of_many_columns_tell_their_names_in_every_cell():
    """A phone shows their rows as paragraphs, without what is empty."""
    head = ["layer", *"abcdef"]
    found = html_table(head, [["conv", Bar("1", 0.5), "2", "-", "", "5", "6"]])
    assert '<table class="wide">' in found
    assert '<td class="number none" data-name="c">-</td>' in found
    assert '<td class="number bar" data-name="a" style="--share:50.0%">1</td>' in found
    assert "wide" not in html_table(head[:6], [["conv", "1", "2", "3", "4", "5"]])
