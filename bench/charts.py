"""Bar charts as SVG."""

import pathlib
from html import escape

# A contrast of 4.35 to 1 with both black and white, so that one picture suits light and dark pages. A media query would
# follow the system's colour scheme, which may differ from the page's.
INK, PALE, ACCENT = "#797979", "#8c8c8c", "#d2601a"
LABEL, WIDTH, ROW, TOP = 250, 720, 30, 46

# The label, the value, and the text beside the bar.
Bar = tuple[str, float, str]


def bars(path: pathlib.Path, title: str, groups: list[list[Bar]]) -> None:
    """Draws the bars. A label in `**` is highlighted."""
    longest = max(value for group in groups for _, value, _ in group)
    scale = (WIDTH - LABEL - 130) / longest
    parts, y = [], TOP
    for group in groups:
        for label, value, text in group:
            ours = "**" in label
            bold = ' font-weight="600"' if ours else ""
            width = max(2, value * scale)
            middle = y + ROW / 2
            parts += [
                f'<text x="{LABEL - 12}" y="{middle + 5}" text-anchor="end"{bold}>{escape(label.replace("**", ""))}</text>',
                f'<rect x="{LABEL}" y="{y + 5}" width="{width:.1f}" height="{ROW - 10}" rx="3" fill="{ACCENT if ours else PALE}"/>',
                f'<text x="{LABEL + width + 8:.1f}" y="{middle + 5}"{bold}>{escape(text)}</text>',
            ]
            y += ROW
        y += ROW // 2
    height = y
    described = "; ".join(f"{label.replace('**', '')}: {text}" for group in groups for label, _, text in group)
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"\n'
        f'     font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="15" fill="{INK}">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(described)}</desc>\n"
        f'<text x="12" y="26" font-size="16" font-weight="600">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
