"""Spans of a large Gantt chart as packed columns, from which the page answers what lies under the pointer.

A browser cannot hold a text for each of 70,000 bars, but it searches typed arrays in no time. `report.js` reads this.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathloom.show.gantt_layout import GanttLayout


def axis_number(position: int) -> str:
    """Number of the y axis of a panel as Plotly counts: none for the first, 2 for the second."""
    return str(position + 1) if position else ""


def _pack(values: NDArray[Any], dtype: str) -> str:
    return b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")


def packed_spans(layout: GanttLayout, stage_column: str) -> dict[str, Any]:
    """The spans as little-endian columns in base64, sorted by row and start, for the page to search."""
    panels = []
    for position, panel in enumerate(layout.panels):
        timeline = panel.panel.timeline
        place = np.zeros(len(timeline.resources), dtype=np.int64)
        place[panel.rows] = np.arange(len(panel.rows))
        row = place[timeline.resource] if len(place) else np.zeros(0, dtype=np.int64)
        by = np.lexsort((timeline.start, row))
        stage = timeline.columns.get(stage_column)
        panels.append(
            {
                "axis": f"yaxis{axis_number(position)}",
                "labels": list(panel.labels),
                "kinds": list(timeline.kinds),
                "centre": panel.centre.tolist(),
                "first": np.searchsorted(row[by], np.arange(len(panel.rows) + 1)).tolist(),
                "start": _pack(timeline.start[by], "<f8"),
                "end": _pack(timeline.end[by], "<f8"),
                "item": _pack(panel.item[by], "<u4"),
                "kind": _pack(timeline.kind[by], "<u1"),
                "stage": None if stage is None or stage.dtype.kind not in "iu" else _pack(stage[by], "<i4"),
            }
        )
    return {"unit": layout.unit, "stage": stage_column, "items": list(layout.items), "panels": panels}
