"""Colours of items, groups and kinds of work.

Hues are spread in OKLCH, where equal steps look equal. Items get hues that lie far apart for neighbours in the list
(neighbours in the list tend to be neighbours in the picture) and one of three depths, so that two close hues differ in
depth. Kinds of work are told apart by lightness and hatching alone, so a black-and-white print keeps them.

Source of the colour space: B. Ottosson, "A perceptual color space for image processing", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, gcd, radians, sin

INK = "#1f2933"
MUTED = "#66727f"
GRID = "#e4e8ec"
BAND = "#f6f8fa"
LAND = "#e3e7eb"
COLOURED = ("solid", "light", "tint")
LOOKS = (*COLOURED, "dark", "grey", "pale")
#: `COLOURED` ones have the colour of their item, and its name on them.


#: How a kind of work is drawn where the caller says nothing; any other kind is "solid".
KIND_LOOKS = {"forward": "solid", "backward": "light", "loss": "dark", "weight": "grey", "sync": "pale"}


@dataclass(frozen=True)
class Shade:
    """Colours of one span: fill, hatch lines ("" for none) and text on top."""

    fill: str
    hatch: str
    text: str


def _oklch(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Linear-light sRGB of an OKLCH colour, hue in degrees; components may leave [0, 1]."""
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def colour(lightness: float, chroma: float, hue: float) -> str:
    """``#rrggbb`` of an OKLCH colour; the chroma shrinks until the colour exists in sRGB.

    Parameters
    ----------
    lightness
        0 (black) to 1 (white).
    chroma
        0 (grey) to about 0.3.
    hue
        Degrees.
    """
    linear = _oklch(lightness, chroma, hue)
    while chroma > 0 and not all(-1e-4 <= c <= 1.0001 for c in linear):
        chroma = max(0.0, chroma - 0.004)
        linear = _oklch(lightness, chroma, hue)
    channels = (min(1.0, max(0.0, c)) for c in linear)
    gamma = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in channels)
    return "#" + "".join(f"{round(255 * c):02x}" for c in gamma)


def relative_luminance(code: str) -> float:
    """Luminance of ``#rrggbb`` from 0 (black) to 1 (white), as WCAG 2 defines it."""
    channels = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _stride(n: int) -> int:
    """Step nearest to the golden section of `n` that visits all n hues before it repeats one."""
    golden = n * (1 - 2 / (1 + 5**0.5))
    return min((s for s in range(1, max(n, 2)) if gcd(s, max(n, 1)) == 1), key=lambda s: abs(s - golden))


def _shades(depth: float, chroma: float, hue: float) -> dict[str, Shade]:
    return {
        "solid": Shade(colour(depth, chroma, hue), "", "#ffffff"),
        "light": Shade(colour(0.91, 0.32 * chroma, hue), colour(0.75, 0.65 * chroma, hue), INK),
        "dark": Shade("#2b333d", "", "#ffffff"),
        "grey": Shade("#a3acb6", "", INK),
        "pale": Shade("#e2e6ea", "#b4bcc5", INK),
        "tint": Shade(colour(0.84, 0.5 * chroma, hue), "", INK),
    }


def item_shades(n: int, *, most: int = 36) -> list[dict[str, Shade]]:
    """Shades of `n` items by look (see `LOOKS`); from `most` items on, colours repeat.

    Returns
    -------
    list
        One ``{look: Shade}`` an item. "dark", "grey" and "pale" are the same for all items.
    """
    count = min(n, most)
    shades = []
    step = _stride(count) if count > 1 else 1
    for i in range(count):
        place = i * step % count
        hue = 25 + 360 * place / count
        depth = (0.55, 0.49, 0.61)[place % 3]
        shades.append(_shades(depth, 0.17, hue))
    return [shades[i % count] for i in range(n)]


def sample_shades() -> dict[str, Shade]:
    """Shades by look for a legend of kinds, in a hue too quiet to be taken for an item's."""
    return _shades(0.50, 0.06, 255)


def group_colours(n: int) -> list[str]:
    """Colours of `n` ordered groups (stages): hues in order, from blue over green and amber to magenta."""
    if n <= 1:
        return [colour(0.56, 0.13, 255)] * n
    span = min(300.0, 62.0 * (n - 1))
    return [colour(0.60 if i % 2 == 0 else 0.68, 0.15, 255 - span * i / (n - 1)) for i in range(n)]
