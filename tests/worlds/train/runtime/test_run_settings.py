"""Settings of a run: what is wrong is named by its key, and what is right goes to every node unchanged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathloom.data.input_model import validated
from pathloom.plan import InputError
from pathloom.worlds.train.runtime.settings import RunSettings


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("steps", 0, "from 1 to"),
        ("steps", 2.5, "whole"),
        ("steps", "many", "whole"),
        ("seed", -1, "from 0 to"),
        ("learning_rate", 0, "above 0"),
        ("learning_rate", float("nan"), "number"),
        ("beta1", 1.0, "at most"),
        ("floor", 1.5, "at most"),
        ("clip", -1, "at least 0"),
        ("accumulation", 0, "from 1 to"),
        ("precision", "int8", "float32"),
        ("device", "tpu", "auto"),
        ("order", "random", "planned"),
        ("links", "fast", "planned"),
        ("recovery", "pray", "reroute"),
        ("redo_gradients", "perhaps", "boolean"),
        ("patience", "10 m", "number of seconds"),
        ("patience", 0, "number of seconds"),
        ("data", "", "at least 1 character"),
        ("keep", 0, "from 1 to"),
    ],
)
def test_what_is_wrong_is_named(key: str, value: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(RunSettings, {"data": "tokens", key: value}, file="run.yaml")
    assert caught.value.key == key
    assert caught.value.file == "run.yaml"
    assert said in caught.value.reason


def test_an_unknown_setting_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match=r"learning_rat: unknown key; did you mean 'learning_rate'\?"):
        validated(RunSettings, {"data": "tokens", "learning_rat": 0.1})


def test_the_data_must_be_given() -> None:
    with pytest.raises(InputError, match="data: missing; expected a folder of tokens"):
        validated(RunSettings, {"steps": 3})


def test_times_have_units() -> None:
    found = validated(RunSettings, {"data": "tokens", "patience": "1500 ms", "join_timeout": "2 min"})
    assert (found.patience, found.join_timeout) == (1.5, 120.0)


@given(
    steps=st.integers(1, 10**9),
    rate=st.floats(1e-12, 1e3),
    clip=st.floats(0, 1e9),
    patience=st.floats(1e-3, 1e6),
    redo=st.booleans(),
    order=st.sampled_from(["planned", "strict"]),
)
def test_settings_reach_every_node_unchanged(**chosen: object) -> None:
    renamed = {"rate": "learning_rate", "redo": "redo_gradients"}
    own = validated(RunSettings, {"data": "tokens", **{renamed.get(k, k): v for k, v in chosen.items()}})
    assert RunSettings.model_validate(json.loads(json.dumps(own.model_dump(mode="json")))) == own
