"""Colours tell items apart, and kinds of work apart even without colour."""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.show.colours import (
    KIND_LOOKS,
    LOOKS,
    colour,
    group_colours,
    item_shades,
    relative_luminance,
    sample_shades,
)


def oklab(code: str) -> np.ndarray:
    """Independent conversion of #rrggbb to OKLab, by the matrices in the other direction."""
    srgb = np.array([int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return lab @ np.cbrt(lms @ linear)


@settings(deadline=None)
@given(st.floats(0.3, 0.98), st.floats(0, 0.3), st.floats(0, 360))
def test_a_colour_keeps_lightness_and_hue_and_never_gains_chroma(lightness, chroma, hue):
    found = oklab(colour(lightness, chroma, hue))
    assert abs(found[0] - lightness) < 0.02
    kept = float(np.hypot(found[1], found[2]))
    assert kept <= chroma + 0.01
    if kept > 0.05:
        off = (np.degrees(np.arctan2(found[2], found[1])) - hue + 180) % 360 - 180
        assert abs(off) < 6


def test_black_white_and_pure_red_are_what_they_should_be():
    assert colour(0, 0, 0) == "#000000" and colour(1, 0, 0) == "#ffffff"
    assert relative_luminance("#ffffff") == pytest.approx(1) and relative_luminance("#000000") == 0
    red = oklab("#ff0000")
    back = colour(red[0], float(np.hypot(red[1], red[2])) - 1e-4, float(np.degrees(np.arctan2(red[2], red[1]))))
    assert all(abs(int(back[i : i + 2], 16) - int("#ff0000"[i : i + 2], 16)) <= 3 for i in (1, 3, 5))


@pytest.mark.parametrize("n", [2, 5, 12, 24, 30, 36])
def test_no_two_items_share_a_colour_and_list_neighbours_are_far_apart(n):
    solid = [shade["solid"].fill for shade in item_shades(n)]
    assert len(set(solid)) == n
    lab = [oklab(code) for code in solid]
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 0.02
    assert min(np.linalg.norm(a - b) for a, b in pairwise(lab)) > 0.1


def test_colours_repeat_beyond_the_palette_and_none_are_made_for_none():
    shades = item_shades(100, most=36)
    assert len(shades) == 100 and shades[40] == shades[4] and item_shades(0) == []


@pytest.mark.parametrize("shade", [*item_shades(30), sample_shades()])
def test_kinds_of_work_differ_in_a_black_and_white_print(shade):
    grey = {look: relative_luminance(shade[look].fill) for look in LOOKS}
    assert grey["dark"] < 0.05 < grey["solid"] < 0.35 < 0.6 < grey["light"]
    assert shade["light"].hatch and not shade["solid"].hatch


@pytest.mark.parametrize("shade", item_shades(30))
def test_text_on_a_bar_has_enough_contrast_to_be_read(shade):
    for look in ("solid", "light", "dark"):
        a, b = sorted((relative_luminance(shade[look].fill), relative_luminance(shade[look].text)))
        assert (b + 0.05) / (a + 0.05) > 3  # WCAG's bound for large text and graphics


@pytest.mark.parametrize("n", [0, 1, 2, 6, 16])
def test_groups_have_different_colours(n):
    codes = group_colours(n)
    assert len(set(codes)) == len(codes) == n
    assert all(re.fullmatch("#[0-9a-f]{6}", code) for code in codes)


def test_every_default_look_exists():
    assert set(KIND_LOOKS.values()) <= set(LOOKS)
