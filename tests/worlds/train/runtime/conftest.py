"""Fixtures of the tests that really run plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import nothing_left, text_tokens


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level token data set, for reading only."""
    return text_tokens(tmp_path_factory.mktemp("text") / "tokens")


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Processes that a test has started must be gone after it."""
    with nothing_left():
        yield
