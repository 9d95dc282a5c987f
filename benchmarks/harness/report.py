"""Print figures as tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_figures(figures: Mapping[str, Any]) -> None:
    """Print one figure a line."""
    for name, value in figures.items():
        print(f"{name:40} {value:,}" if isinstance(value, int | float) else f"{name:40} {value}")


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    for name, value in rows:
        print(f"{name:46} {value:>20}")


def print_markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table whose first column is text and whose others are numbers."""
    print(f"| {' | '.join(header)} |")
    print("|---|" + "---:|" * (len(header) - 1))
    for row in rows:
        print(f"| {' | '.join(row)} |")
