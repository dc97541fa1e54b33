"""``pathloom profile``: measures, writes, and says what it did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from answers import Call, Install

from pathloom.worlds.train.files import example, load

pytest.importorskip("torch")
pytest.importorskip("ruamel.yaml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    text = example()
    for old, new in (("dim: 1024", "dim: 32"), ("heads: 16", "heads: 4"), ("context: 1024", "context: 16")):
        text = text.replace(old, new)
    path = tmp_path / "problem.yaml"
    path.write_text(text.replace("vocab: 32000", "vocab: 50"), encoding="utf-8")
    return path


def test_the_file_is_written_and_the_figures_are_shown(call: Call, file: Path) -> None:
    nodes, before = load(file).nodes, file.read_text()
    answer = call("profile", file, "--device", "cpu", "--repeats", "2", "--node", "Canada-1")
    assert answer.status == 0, answer.err
    assert "times.backward" in answer.out
    assert f"written into {file}" in answer.out
    assert file.read_text() != before
    assert load(file).nodes == nodes


def test_json_is_one_object_with_the_measured_figures(call: Call, file: Path) -> None:
    answer = call("profile", file, "--device", "cpu", "--repeats", "2", "--json")
    result = json.loads(answer.out)
    assert answer.out.count("\n") == 1
    assert result["problem"]["name"] == "example"
    assert result["problem"]["file"] == str(file)
    assert result["files"] == {"problem": str(file)}
    compute = result["metrics"]["compute"]
    assert compute["threads"] == 1
    assert compute["speed"] == pytest.approx(compute["forward"]["median"] / 8)
    assert load(file).forward[0, 0] == pytest.approx(24 * compute["speed"], rel=1e-3)


def test_a_dry_run_prints_the_difference(call: Call, file: Path) -> None:
    before = file.read_text()
    answer = call("profile", file, "--no-compute", "--link", "Iowa:London=loopback", "--dry-run")
    assert answer.status == 0, answer.err
    assert "+    - {between: [Iowa, London], delay: " in answer.out
    assert file.read_text() == before


def test_a_mistake_is_one_line(call: Call, file: Path) -> None:
    for wrong in (["--node", "Paris"], ["--link", "Iowa"], ["--device", "abacus"], ["--threads", "0"]):
        answer = call("profile", file, *wrong)
        assert answer.status == 2
        assert len(answer.lines) == 1
    assert call("profile").lines == ["pathloom: FILE: expected a problem file, or --serve HOST:PORT"]


def test_a_world_that_measures_nothing_says_so(call: Call, counting: Install) -> None:
    answer = call("profile", counting())
    assert answer.status == 2
    assert "three.txt: is a problem of the world 'counting', which measures no machines" in answer.lines[0]
    answer = call("profile", "--serve", "127.0.0.1:0")
    assert answer.lines == ["pathloom: --serve: no installed world can measure machines"]


def test_a_missing_package_is_named_with_its_extra(call: Call, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_text()
    monkeypatch.delitem(sys.modules, "pathloom.worlds.train.runtime.layer_timing", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = call("profile", file, "--device", "cpu")
    assert answer.status == 2
    assert answer.lines == ["pathloom: torch: needs the extra 'train': pip install 'pathloom[train]'"]
    assert file.read_text() == before


def test_a_probe_serves_another_process_until_it_is_interrupted(call: Call, file: Path) -> None:
    command = [sys.executable, "-m", "pathloom.cli", "profile", "--serve", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as server:
        assert server.stderr is not None
        said = server.stderr.readline()
        port = said.partition("127.0.0.1:")[2].partition(";")[0]
        answer = call("profile", file, "--no-compute", "--link", f"Iowa-1:London=127.0.0.1:{port}")
        server.send_signal(signal.SIGINT)
        try:
            _, rest = server.communicate(timeout=60)
        finally:
            server.kill()
    assert answer.status == 0, (said, answer.err)
    assert "{between: [Iowa-1, London], delay: " in file.read_text()
    assert (server.returncode, "probe stopped" in rest) == (0, True)
