"""Pages of HTML that need nothing but themselves: tables with bars, and lines over steps.

They are read on phones too: tables scroll by themselves, and colours follow the reader's choice of
light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #667080; --line: #d9dee5;
  --bar: #bcd7f5; --paper: #ffffff; --stroke: #1f6fc4; --shade: #8a94a455; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #98a2b1; --line: #343b45; --bar: #24466b; --paper: #15181c;
    --stroke: #6db1ff; --shade: #00000099; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 90rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; max-width: 60rem; } .soft { color: var(--soft); font-size: .9em; }
.scroll { overflow-x: auto; background:
  linear-gradient(90deg, var(--paper) 1.5rem, transparent) left / 3rem 100% no-repeat,
  linear-gradient(270deg, var(--paper) 1.5rem, transparent) right / 3rem 100% no-repeat,
  linear-gradient(90deg, var(--shade), transparent) left / 1rem 100% no-repeat,
  linear-gradient(270deg, var(--shade), transparent) right / 1rem 100% no-repeat;
  background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .88em;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } .number { text-align: right; }
td.bar { background: linear-gradient(90deg, var(--bar) var(--share), transparent var(--share)); }
.chart { display: grid; grid-template-columns: auto 1fr; gap: .3rem .5rem; max-width: 60rem;
  margin: .6rem 0; padding: .5rem .4rem 0 0; color: var(--soft); font-size: .8rem; line-height: 1; }
.chart svg { width: 100%; height: 12rem; overflow: visible; }
.ticks { display: flex; flex-direction: column; justify-content: space-between;
  text-align: right; margin: -.4rem 0; }
.ends { grid-column: 2; display: flex; justify-content: space-between; gap: 1rem; }
svg * { vector-effect: non-scaling-stroke; } svg line { stroke: var(--line); }
svg path { fill: none; stroke: var(--stroke); stroke-width: 2; stroke-linejoin: round; }
svg .dot { stroke-width: 7; stroke-linecap: round; }
.bars { display: grid; grid-template-columns: minmax(4rem, max-content) 1fr; gap: .2rem .8rem;
  margin: .6rem 0; max-width: 60rem; font-size: .88em; } .bars dd { margin: 0; display: flex;
  align-items: center; gap: .5rem; white-space: nowrap; padding-right: 5rem; }
.bars i { background: var(--stroke); height: .9em; flex: none; width: var(--length);
  min-width: 1px; border-radius: 2px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; max-width: 60rem; } .tiles div { border: 1px solid var(--line);
  border-radius: .5rem; padding: .6rem .8rem; } .tiles dt { color: var(--soft); font-size: .85em; }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
@media (max-width: 40rem) { th, td { padding: .25rem .35rem; }
  th { white-space: normal; overflow-wrap: normal; }
  .wide, .wide tbody, .wide tr, .wide td:first-child { display: block; } .wide thead,
  .wide .none { display: none; }
  .wide tr { padding: .35rem 0; border-bottom: 1px solid var(--line); }
  .wide td { display: inline-block; padding: 0 .9rem 0 0; border: 0; white-space: normal; }
  .wide td:first-child { font-weight: 600; } .wide td + td::before { content: attr(data-name) " ";
  color: var(--soft); } .wide td.bar { background: none; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles dd { font-size: 1.2rem; } }
ul { margin: .3rem 0; padding-left: 1.2rem; max-width: 60rem; }
"""


NARROW = 6
"""Columns of a table up to which it fits a phone."""
MAX_DOTS = 100
"""Points of a line up to which each is drawn."""


@dataclass(frozen=True)
class Bar:
    """A cell with a bar behind its text; `share` is of the cell's width, from 0 to 1."""

    text: str
    share: float


Cell = str | Bar


def page(title: str, *parts: str) -> str:
    """Return a whole page of `parts`, which are HTML."""
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """Return the heading of a part."""
    return f"<h2>{escape(text)}</h2>"


def text(words: str, *, soft: bool = False) -> str:
    """Return a paragraph."""
    return f'<p class="soft">{escape(words)}</p>' if soft else f"<p>{escape(words)}</p>"


def html_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table; columns of numbers are aligned to the right.

    On a phone the rows of a table of many columns become paragraphs.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    numbers = [all(_is_number(cell) for cell in column) for column in columns]
    top = "".join(
        f"<th{_class(number=number)}>{escape(name)}</th>"
        for name, number in zip(head, numbers, strict=True)
    )
    body = "\n".join("<tr>" + "".join(map(_cell, row, numbers, head)) + "</tr>" for row in rows)
    wide = ' class="wide"' if len(head) > NARROW else ""
    return (
        f'<div class="scroll"><table{wide}>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _is_number(cell: Cell) -> bool:
    words = cell.text if isinstance(cell, Bar) else cell
    return words in ("", "-", "float", "exact", "inf") or words.lstrip("-")[:1].isdigit()


def _class(**wanted: bool) -> str:
    names = " ".join(name for name, is_wanted in wanted.items() if is_wanted)
    return f' class="{names}"' if names else ""


def _cell(cell: Cell, number: bool, column: str) -> str:
    name = f' data-name="{escape(column)}"'
    if isinstance(cell, str):
        return f"<td{_class(number=number, none=cell in ('', '-'))}{name}>{escape(cell)}</td>"
    share = min(1.0, max(0.0, cell.share)) if isfinite(cell.share) else 0.0
    style = f' style="--share:{100 * share:.1f}%"'
    return f"<td{_class(number=number, bar=True)}{name}{style}>{escape(cell.text)}</td>"


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Return the few figures that matter most: what each is, and its value."""
    parts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in pairs
    )
    return f'<dl class="tiles">{parts}</dl>'


def listing(lines: Sequence[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def bar_chart(bars: Sequence[tuple[str, float, str]]) -> str:
    """Return bars one below the other: the name, the length, and the value as text."""
    most = max((length for _, length, _ in bars), default=0.0) or 1.0
    rows = "".join(
        f"<dt>{escape(name)}</dt>"
        f'<dd style="--length:{100 * length / most:.1f}%"><i></i>{escape(value)}</dd>'
        for name, length, value in bars
    )
    return f'<dl class="bars">{rows}</dl>'


def line_chart(
    values: Sequence[float],
    labels: Sequence[str],
    unit: str,
    *,
    ends: tuple[str, str] = ("first", "last layer"),
    at: Sequence[float] | None = None,
    marks: Sequence[float] = (),
) -> str:
    """Return a line over the finite `values`; where they are few, each shows its label.

    The axis goes from 0, or the least value below it, to the largest. Text is not part of the
    drawing, which is stretched, so that it is as large on a phone.

    Parameters
    ----------
    labels : of each value, shown when it is pointed at
    ends : what is written below the first and the last value
    at : where each value lies from left to right; by default at even distances
    marks : where vertical lines are drawn, as in `at`
    """
    finite = [value for value in values if isfinite(value)]
    low, high = min(0.0, *finite, 0.0), max(0.0, *finite, 0.0)
    span = (high - low) or 1.0
    at = range(len(values)) if at is None else at
    first, last = (at[0], at[-1]) if len(at) else (0.0, 1.0)

    def x(place: float) -> float:
        return 1000 * (place - first) / ((last - first) or 1.0)

    def y(value: float) -> float:
        return 1000 * (1 - (value - low) / span)

    points = [(x(at[i]), y(v), i) for i, v in enumerate(values) if isfinite(v)]
    path = " ".join(f"{'L' if n else 'M'}{px:.1f} {py:.1f}" for n, (px, py, _) in enumerate(points))
    dots = "".join(
        f'<path class="dot" d="M{px:.1f} {py:.1f}h0"><title>{escape(labels[i])}: '
        f"{values[i]:.4g} {escape(unit)}</title></path>"
        for px, py, i in points
        if len(points) <= MAX_DOTS
    )
    lines = "".join(f'<line x1="0" x2="1000" y1="{v}" y2="{v}"/>' for v in (0, 500, 1000))
    lines += "".join(
        f'<line x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="0" y2="1000"/>'
        for mark in marks
        if first <= mark <= last
    )
    ticks = "".join(f"<span>{v:.3g}</span>" for v in (low + span, low + span / 2, low))
    return (
        f'<div class="chart"><div class="ticks">{ticks}</div>'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img">{lines}'
        f'<path d="{path}"/>{dots}</svg>'
        f'<div class="ends"><span>{escape(ends[0])}</span>'
        f"<span>{escape(ends[1])}, {escape(unit)}</span></div></div>"
    )
