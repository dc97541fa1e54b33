"""Type face of pages and prints: the reader's system font, or the nearest that is installed."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

#: CSS font stack of pages and Plotly figures.
FONT_STACK = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"

_PRINT = ("Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "Noto Sans", "DejaVu Sans")


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    from matplotlib.font_manager import fontManager

    names = {entry.name for entry in fontManager.ttflist}
    # DejaVu Sans comes with Matplotlib and has the glyphs that others lack.
    return (*(name for name in _PRINT if name in names and name != "DejaVu Sans"), "DejaVu Sans")


def print_font() -> Any:
    """Matplotlib settings of the print type face; names only fonts that are there, as others raise warnings."""
    return {"font.family": list(_installed()), "axes.unicode_minus": False}
