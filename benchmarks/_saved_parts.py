"""Finished parts of a long benchmark on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _table import say


class SavedParts:
    """Named results of parts, written after each part; those of other settings are not taken over.

    Parameters
    ----------
    path
        File to keep them in, made with the first part.
    settings
        What the results depend on beside the part's own name: plain JSON values.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.parts: dict[str, Any] = {}
        if path.exists():
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))
                if saved["settings"] == self.settings:
                    self.parts = dict(saved["parts"])
                else:
                    say(f"{path}: made with other settings, starting anew")
            except (KeyError, TypeError, ValueError):
                say(f"{path}: cannot be read, starting anew")

    def part(self, name: str, make: Callable[[], Any]) -> Any:
        """The saved result of that name; made and saved if there is none."""
        if name not in self.parts:
            self.parts[name] = json.loads(json.dumps(make(), allow_nan=False))
            self._save()
        return self.parts[name]

    def clear(self) -> None:
        """Forget all parts: the whole is finished, and the next run is to measure anew."""
        self.parts = {}
        self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved: a run that is killed here leaves the earlier parts.
        beside = self.path.with_name(self.path.name + ".part")
        beside.write_text(json.dumps({"settings": self.settings, "parts": self.parts}, indent=0) + "\n", "utf-8")
        os.replace(beside, self.path)
