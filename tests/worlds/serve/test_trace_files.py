"""Trace files of every format, what is put right in them and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathloom.data import find
from pathloom.plan import InputError
from pathloom.worlds.serve.trace import Trace
from pathloom.worlds.serve.trace_files import read_trace, trace_format, write_trace

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURST = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,API log
"""
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,100,10\n2.0,50,5\n"
LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3742,284,4026,0.07\n18,243,261,13.5\n"
MOONCAKE = """{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 1500, "input_length": 512, "output_length": 9, "hash_ids": [0]}
"""


def written(folder: Path, text: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "known", "arrival", "prompt", "output"),
    [
        (AZURE, "azure", [0.0, 4.314579], [374, 396], [44, 109]),
        (AZURE_2024, "azure", [0.0, 0.007405], [2162, 2399], [5, 6]),
        (BURST, "burstgpt", [0.0, 40.0], [472, 1087], [18, 230]),
        (VIDUR, "vidur", [0.0, 1.5], [100, 50], [10, 5]),
        (LENGTHS, "lengths", [0.0, 0.0], [3742, 18], [284, 243]),
        (MOONCAKE, "mooncake", [0.0, 1.5], [700, 512], [5, 9]),
        ('{"arrival": 1, "prompt": 7, "output": 3, "user": 2}\n', "pathloom", [0.0], [7], [3]),
    ],
    ids=["azure", "azure 2024", "burstgpt", "vidur", "lengths", "mooncake", "own"],
)
def test_every_format_is_recognised_and_read(
    tmp_path: Path, text: str, known: str, arrival: list[float], prompt: list[int], output: list[int]
) -> None:
    assert trace_format(text) == known
    trace = read_trace(written(tmp_path, text))
    assert np.allclose(trace.arrival, arrival, atol=1e-6)
    assert trace.prompt.tolist() == prompt and trace.output.tolist() == output
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(text.encode(), mtime=0))
    assert read_trace(packed).prompt.tolist() == prompt and read_trace(packed).name == "trace"


def test_requests_without_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    assert read_trace(written(tmp_path, BURST)).skipped == 1


def test_rows_out_of_order_are_sorted_with_their_blocks(tmp_path: Path) -> None:
    lines = MOONCAKE.splitlines()
    trace = read_trace(written(tmp_path, "\n".join(lines[::-1]), "trace.jsonl"))
    assert trace.arrival.tolist() == [0.0, 1.5]
    assert trace.block.tolist() == [0, 1, 0] and trace.block_start.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("a,b\n1,2\n", "line 1", "is no trace"),
        ("{]\n", "line 1", "is no trace"),
        (AZURE + "2023-11-16 18:15:51,-3,4\n", "line 4, ContextTokens", "from 0 to"),
        (AZURE + "2023-11-16 18:15:51,3.5,4\n", "line 4, ContextTokens", "whole number"),
        (AZURE + "2023-11-16 18:15:51,3,1e12\n", "line 4, GeneratedTokens", "from 0 to"),
        (AZURE + "yesterday,3,4\n", "line 4, TIMESTAMP", "expected a date and time, found 'yesterday'"),
        (AZURE + "NaT,3,4\n", "line 4, TIMESTAMP", "expected a date and time"),
        (AZURE + "2023-11-16 18:15:51,3\n", "line 4", "expected 3 columns, found 2"),
        (VIDUR + "nan,3,4\n", "line 4, arrived_at", "finite"),
        (VIDUR + "x,3,4\n", "line 4, arrived_at", "expected a number, found 'x'"),
        (VIDUR.split("\n")[0] + "\n0,5,0\n", None, "holds no request"),
        (VIDUR.split("\n")[0] + "\n", None, "holds no request"),
        (MOONCAKE + "[1]\n", "line 3", "expected an object"),
        (MOONCAKE + "{\n", "line 3", "is no JSON"),
        (MOONCAKE.replace("[0]", "[0, 4]"), "line 2, hash_ids", "one block for every 512"),
        (MOONCAKE.replace("[0]", '["x"]'), "line 2, hash_ids", "list of whole numbers"),
        (MOONCAKE.replace("1500", '"soon"'), "line 2, timestamp", "expected a number, found 'soon'"),
        ('{"arrival": 0, "prompt": 1, "output": 1, "blocks": [1]}', "line 1", "block_tokens"),
        ('{"block_tokens": 0}', "line 1, block_tokens", "at least 1"),
        ('{"arrival": 0, "prompt": 1, "output": 1, "user": -1}', "line 1, user", "from 0 to"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, key: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        read_trace(written(tmp_path, text))
    assert error.value.key == key and error.value.file is not None


def test_empty_lines_are_no_requests(tmp_path: Path) -> None:
    assert len(read_trace(written(tmp_path, VIDUR.replace("\n", "\n\n")))) == 2
    assert len(read_trace(written(tmp_path, MOONCAKE.replace("\n", "\n\n")))) == 2


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.booleans())
@settings(deadline=None, max_examples=40)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, shared: bool
) -> None:
    rng = np.random.default_rng(seed)
    prompt = rng.integers(1, 40, count)
    sizes = -(-prompt // 8) if shared else np.zeros(count, np.int64)
    arrival = np.sort(rng.random(count))
    trace = Trace(
        "drawn",
        arrival - arrival[0],
        prompt,
        rng.integers(1, 9, count),
        rng.integers(0, 3, count),
        rng.integers(0, 2, count),
        np.concatenate(([0], np.cumsum(sizes))),
        rng.integers(0, 99, sizes.sum()),
        8 if shared else 0,
    )
    path = tmp_path_factory.mktemp("traces") / "drawn.jsonl"
    write_trace(trace, path)
    again = read_trace(path)
    for name in ("arrival", "prompt", "output", "user", "priority", "block_start", "block", "block_tokens", "name"):
        assert np.array_equal(getattr(trace, name), getattr(again, name)), name


@pytest.mark.parametrize(
    ("name", "requests", "rate", "prompt", "output"),
    [
        ("azure-2023-conv.csv.gz", 19_366, 5.53, 1155, 211),
        ("azure-2023-code.csv.gz", 8_819, 2.57, 2048, 28),
    ],
)
def test_public_traces_have_the_figures_that_are_known_of_them(
    name: str, requests: int, rate: float, prompt: int, output: int
) -> None:
    try:
        path = find("serve-traces") / name
    except InputError as error:
        pytest.skip(f"public traces are not at hand: {error}")
    trace = read_trace(path)
    assert len(trace) + trace.skipped == requests
    assert trace.rate == pytest.approx(rate, rel=0.01)
    assert trace.prompt.mean() == pytest.approx(prompt, abs=1) and trace.output.mean() == pytest.approx(output, abs=1)
