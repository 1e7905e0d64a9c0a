"""The report's tables as HTML, readable on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    chosen: Sequence[bool] = (),
    numbers: Sequence[int] = (),
    stacked: bool = False,
) -> str:
    """``rows`` hold HTML, ``heads`` plain text; the columns at ``numbers`` are set to the right.

    ``stacked``: on a narrow screen every row becomes a list of its cells, each with its head.
    """

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = [' class="number"' if at in numbers else "" for at in range(len(values))]
        if stacked and tag == "td":
            kinds = [f'{kind} data-h="{escape(head)}"' for kind, head in zip(kinds, heads, strict=True)]
        return "".join(f"<{tag}{kind}>{value}</{tag}>" for kind, value in zip(kinds, values, strict=True))

    body = "".join(
        f"<tr{' class=chosen' if at < len(chosen) and chosen[at] else ''}>{cells('td', row)}</tr>"
        for at, row in enumerate(rows)
    )
    head = cells("th", [escape(text) for text in heads])
    opening = '<table class="stacked">' if stacked else "<table>"
    return f'<div class="scroll">{opening}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
