"""Draw curves over time as one SVG."""

from collections.abc import Sequence


def draw_curves(title: str, lines: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return curves under each other, from left to right over the same time, each with its own scale from 0."""
    width, height = 900, 160
    parts = [f'<text x="10" y="20">{title}</text>']
    for number, (label, values) in enumerate(lines):
        top, most = 40 + number * (height + 40), max(max(values), 1.0)
        step = width / max(len(values) - 1, 1)
        path = " ".join(f"{10 + i * step:.1f},{top + height * (1 - v / most):.1f}" for i, v in enumerate(values))
        parts.append(f'<text x="10" y="{top - 6}">{label}, at most {most:.0f}</text>')
        parts.append(f'<polyline points="{path}" fill="none" stroke="#3b4fd6"/>')
        parts.append(f'<path d="M10 {top + height}h{width}" stroke="#888"/>')
    size = f'width="{width + 20}" height="{len(lines) * (height + 40) + 40}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">\n{body}\n</svg>\n'
