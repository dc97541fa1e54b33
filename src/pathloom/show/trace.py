"""Chrome trace events: a timeline as a file for ui.perfetto.dev and chrome://tracing.

A group of resources is a process, a resource a thread, a span a complete event ("X"), and each item's way from span to
span a chain of flow arrows ("s" and "f"). chrome://tracing takes the colour of a span from its item; Perfetto chooses
colours itself from the words of the event's name and ignores the file's.

Source of the format: "Trace Event Format", the Chromium project, 2016.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pathloom.timeline import Timeline

#: Microseconds per unit of time.
MICROSECONDS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "min": 6e7, "h": 3.6e9}

#: Kinds of work that an item leaves behind: they happen after it has gone on, or belong to no item.
ASIDE = frozenset({"weight", "sync"})

# Names of colours that chrome://tracing knows; the format has no others.
_COLOURS = (
    "thread_state_runnable",
    "rail_animation",
    "thread_state_iowait",
    "rail_response",
    "cq_build_passed",
    "good",
    "thread_state_uninterruptible",
    "vsync_highlight_color",
    "startup",
    "olive",
    "rail_load",
    "thread_state_running",
    "yellow",
    "bad",
)


def _times(values: Any, scale: float) -> list[float]:
    """Microseconds, to a thousandth: viewers count in whole nanoseconds."""
    return [float(value) for value in np.round(np.asarray(values, dtype=np.float64) * scale, 3)]


def trace_events(
    timeline: Timeline, *, groups: Mapping[str, str] | None = None, aside: Collection[str] = ASIDE
) -> list[dict[str, Any]]:
    """Events of the trace format, metadata first.

    Parameters
    ----------
    timeline
        What to export. A unit of time that is not in `MICROSECONDS` (a step, say) counts as a second.
    groups
        Resource name -> name of its process, in the order in which processes are to stand; resources without one
        go into a process "resources".
    aside
        Kinds of work that are not on an item's way: flow arrows pass them by.

    Raises
    ------
    ValueError
        If `groups` names a resource that the timeline does not have.
    """
    groups = groups or {}
    known = set(timeline.resources)
    for name in groups:
        if name not in known:
            raise ValueError(f"groups names the resource '{name}', which the timeline does not have")
    titles = list(dict.fromkeys([*groups.values(), *(groups.get(name, "resources") for name in timeline.resources)]))
    process = [titles.index(groups.get(name, "resources")) + 1 for name in timeline.resources]
    events: list[dict[str, Any]] = []
    for position, title in enumerate(titles):
        events.append({"ph": "M", "name": "process_name", "pid": position + 1, "args": {"name": title}})
        events.append({"ph": "M", "name": "process_sort_index", "pid": position + 1, "args": {"sort_index": position}})
    for position, name in enumerate(timeline.resources):
        place = {"pid": process[position], "tid": position + 1}
        events.append({"ph": "M", "name": "thread_name", **place, "args": {"name": name}})
        events.append({"ph": "M", "name": "thread_sort_index", **place, "args": {"sort_index": position}})

    scale = MICROSECONDS.get(timeline.unit, 1e6)
    start, end = _times(timeline.start, scale), _times(timeline.end, scale)
    further = {name: column.tolist() for name, column in timeline.columns.items()}
    order = np.lexsort((timeline.end, timeline.start)).tolist()
    previous: dict[int, int] = {}
    flow = 0
    for row in order:
        item, resource = int(timeline.item[row]), int(timeline.resource[row])
        name, kind = timeline.items[item], timeline.kinds[timeline.kind[row]]
        place = {"pid": process[resource], "tid": resource + 1}
        events.append(
            {
                "ph": "X",
                "name": f"{name} {kind}",
                "cat": kind,
                "ts": start[row],
                # A difference of rounded times: spans that touch must not overlap by a rounding.
                "dur": round(end[row] - start[row], 3),
                **place,
                "cname": _COLOURS[item % len(_COLOURS)],
                "args": {"item": name, "kind": kind, **{key: _plain(column[row]) for key, column in further.items()}},
            }
        )
        if kind in aside:
            continue
        if item in previous:
            last = previous[item]
            # An arrow belongs to the span that is open at its time, so it has to leave before its span has ended; and
            # it may only lead forward in time, which spans of one item at the same time would break.
            if start[last] < end[last] <= start[row]:
                flow += 1
                leave = max(start[last], round(end[last] - 0.001, 3))
                arrow = {"name": name, "cat": "way", "id": flow}
                before = int(timeline.resource[last])
                events.append({"ph": "s", **arrow, "ts": leave, "pid": process[before], "tid": before + 1})
                events.append({"ph": "f", "bp": "e", **arrow, "ts": start[row], **place})
        previous[item] = row
    return events


def _plain(value: Any) -> Any:
    """`value` as JSON knows it: numbers that are none become text."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def write_perfetto(
    timeline: Timeline, path: Path, *, groups: Mapping[str, str] | None = None, aside: Collection[str] = ASIDE
) -> Path:
    """Write `trace_events` as a JSON file that Perfetto and chrome://tracing open.

    Parameters
    ----------
    timeline, groups, aside
        As in `trace_events`.
    path
        File to write; by custom it ends in ``.trace.json``.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ValueError
        As in `trace_events`.
    """
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    body = ",\n".join(encoder.encode(event) for event in trace_events(timeline, groups=groups, aside=aside))
    path.write_text(f'{{"displayTimeUnit":"ms","traceEvents":[\n{body}\n]}}\n', encoding="utf-8")
    return path
