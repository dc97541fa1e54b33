"""A profile of a made-up card: every time is a formula, so that look-ups can be checked by hand."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

META = """model: meta-llama/Llama-3.1-8B
hardware: card
skew_fit:
  enabled: true
  bucket_axes:
    n_bins: [0, 4, 1000000]
    n_labels: [n<=4, n>4]
    skew_rate_bins: [-0.01, 0.5, 1.01]
    skew_rate_labels: [low, high]
    kv_big_bins: [0, 1000, 1000000000]
    kv_big_labels: [short, long]
    kp_bins: [-1, 0, 1000000000]
    kp_labels: [none, some]
  per_tp:
    1: {alpha_default: 0.25}
"""
POINTS = (0, 16, 64, 256)
COUNTS = (1, 4, 16)


def attention(chunk: float, history: float, count: float, context: float) -> float:
    """Microseconds of the attention of a block; the product makes times on edges of the grid bend."""
    return 5 + 0.1 * chunk + 0.02 * history + 0.5 * count + 0.001 * count * context


def write_profile(folder: Path) -> Path:
    """Write the profile; returns its folder, which is named for one card."""
    home = folder / "card-llama-tp1"
    home.mkdir()
    (home / "meta.yaml").write_text(META)
    dense = [
        (layer, tokens, base + 0.01 * tokens)
        for layer, base in (("qkv_proj", 10), ("layernorm", 1), ("embedding", 3))
        for tokens in (1, 8, 64, 512)
    ]
    grid = [
        (c, h, n, v, attention(c, h, n, v))
        for c, h, n, v in product(POINTS, POINTS, (0, *COUNTS), POINTS)
        if ((c > 0 and (n > 0) == (v > 0)) or (c == h == 0 and n > 0 and v > 0)) and not (c == 256 and n == 16)
    ]
    tables = {
        "dense": ("layer,tokens,time_us", dense),
        "per_sequence": ("layer,sequences,time_us", [("lm_head", n, 100 + n) for n in (1, 10)] + [("sampler", 1, 7)]),
        "attention": ("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", grid),
        "skew_fit": (
            "pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples",
            [(0, "n<=4", "low", "short", "none", 0.5, 3), (16, "n>4", "high", "long", "some", -0.1, 3)],
        ),
    }
    for name, (titles, rows) in tables.items():
        text = "\n".join([titles, *(",".join(map(str, row)) for row in rows)]) + "\n"
        (home / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    return home
