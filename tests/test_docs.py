"""The documentation is true of the program: examples run, commands and links exist, tables are complete."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_core import PydanticUndefined

from pathloom.cli.app import command
from pathloom.cli.bench import benchmarks
from pathloom.data.input_model import InputModel
from pathloom.data.registry import datasets
from pathloom.learn.rates import PROFILES, SAMPLING_RATES, plan_named
from pathloom.world import worlds
from pathloom.worlds.train import train_file
from pathloom.worlds.train.problem import TrainProblem
from pathloom.worlds.train.runtime.run import FORMAT as RUN_FORMAT
from pathloom.worlds.train.runtime.settings import RunSettings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [body for tag, body in FENCE.findall(page.read_text(encoding="utf-8")) if tag == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def shell_lines() -> list[str]:
    """Commands of all pages, each once."""
    bodies = [body.replace("\\\n", " ") for page in PAGES for body in blocks(page, "bash")]
    lines = [line.strip() for body in bodies for line in body.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_examples_run_in_their_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    for number, body in enumerate(blocks(page, "python"), start=1):
        exec(compile(body, f"{page.name}, example {number}", "exec"), names)


@pytest.mark.parametrize("line", shell_lines())
def test_shell_examples_name_commands_options_and_methods_that_exist(line: str) -> None:
    program, *arguments = shlex.split(line)
    assert Path(program).name == "pathloom"
    group, path = command(), "pathloom"
    while hasattr(group, "commands"):
        name, arguments = arguments[0], arguments[1:]
        assert name in group.commands, f"{path} has no command {name}"
        group, path = group.commands[name], f"{path} {name}"
    # Parses as the program would, with the type of each value, and runs nothing.
    given = group.make_context(path, list(arguments)).params
    if given.get("method"):
        assert any(given["method"] in world.methods for world in worlds().values())
    if path == "pathloom run":
        # What no option says is a setting, with a value that the run would take.
        settings = {name: yaml.safe_load(value) for name, _, value in (s.partition("=") for s in given["set_"] or [])}
        RunSettings.model_validate({"data": "tokens", **settings})
        if given["schedule"] and not given["schedule"].endswith(".json"):
            assert plan_named(given["schedule"], 100)
    else:
        for setting in given.get("set_") or []:
            name = setting.partition("=")[0]
            assert any(name in world.options or name in world.disturbances for world in worlds().values())
    if given.get("world"):
        assert given["world"] in worlds()
    if path == "pathloom bench" and given["name"]:
        assert given["name"] in benchmarks()
    if path == "pathloom data fetch":
        assert set(given["names"]) <= {entry.name for entry in datasets()}
    if str(given.get("file")).startswith("examples/"):
        assert (ROOT / str(given["file"])).is_file()


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"(?:^ +|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"run", "test"} <= named <= targets


def headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in headings(place), f"{page.name} links to {target}"


MAPPINGS: dict[str, tuple[type[InputModel], ...]] = {
    "": (train_file.TrainFile,),
    "nodes[].": (train_file.NodeGroup,),
    "nodes.": (train_file.SpreadNodes,),
    "links.": (train_file.Links,),
    "links.pairs[].": (train_file.Pair,),
    "links.inside.": (train_file.Inside,),
    "model.": (train_file.Llama, train_file.LayerTable),
    "model.table[].": (train_file.LayerCost,),
    "stages.": (train_file.Stages,),
    "reordering.": (train_file.ReorderingBudget,),
    "balance.": (train_file.BalanceRules,),
    "times.": (train_file.TaskTimes,),
    "synchronisation.": (train_file.Synchronisation,),
}


def documented_keys() -> dict[str, str]:
    """Key -> what its row in docs/train.md says about the default."""
    text = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    section = text.partition("## The input file")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.\[\]]+)` \| ([^|]+) \|", section, re.MULTILINE))


def test_every_key_of_the_training_file_is_documented_and_no_other() -> None:
    keys = {prefix + name for prefix, models in MAPPINGS.items() for model in models for name in model.model_fields}
    assert set(documented_keys()) == keys


def test_documented_defaults_are_those_of_the_training_file() -> None:
    rows = documented_keys()
    for prefix, models in MAPPINGS.items():
        for model in models:
            for name, field in model.model_fields.items():
                said = rows[prefix + name]
                if said == "required":
                    assert field.is_required(), prefix + name
                elif said.startswith("`") and said.endswith("`"):
                    assert yaml.safe_load(said.strip("`")) == field.get_default(call_default_factory=True), (
                        prefix + name
                    )
                else:  # in words: nothing, or a mapping whose keys have rows of their own
                    assert not field.is_required(), prefix + name
                    assert field.default is None or field.default is PydanticUndefined, prefix + name


def rows_of(page: str, section: str) -> list[list[str]]:
    """Cells of all rows of the tables in a section, headings left out."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(f"## {section}\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] == "| `"]
    return cells


def test_every_setting_of_a_run_is_documented_with_its_default_and_no_other() -> None:
    rows = {name.strip("`"): default for name, default, _ in rows_of("train-run.md", "Settings")}
    assert list(rows) == list(RunSettings.model_fields)
    for name, field in RunSettings.model_fields.items():
        if rows[name] == "required":
            assert field.is_required(), name
        else:
            said = yaml.safe_load(rows[name].strip("`"))
            default = field.get_default(call_default_factory=True)
            assert type(default)(said) == default, name


def test_the_format_of_a_run_is_documented() -> None:
    assert f"`{RUN_FORMAT}`" in (ROOT / "docs" / "train-run.md").read_text(encoding="utf-8")


def test_every_profile_of_a_learning_rate_is_documented_with_its_parameters_and_no_other() -> None:
    rows = rows_of("learning-rates.md", "A profile, read at certain points")
    profiles = {cells[0].strip("`"): cells[2].strip("| ") for cells in rows if len(cells) == 3}
    assert set(profiles) == set(PROFILES)
    for name, said in profiles.items():
        parameters = {key: yaml.safe_load(value) for key, value in re.findall(r"`(\w+)=([^`]+)`", said)}
        assert {"name": name, **parameters} == PROFILES[name]().to_dict()


def test_every_sampling_rate_is_documented() -> None:
    text = prose(ROOT / "docs" / "learning-rates.md")
    assert [name for name in SAMPLING_RATES if f"`{name}`" not in text] == []


@pytest.mark.parametrize("world", ["train", "motion"])
def test_every_method_and_every_rule_of_the_checker_is_documented(world: str) -> None:
    page = (ROOT / "docs" / f"{world}.md").read_text(encoding="utf-8")
    declared = worlds()[world]
    text = import_module(declared.check.partition(":")[0]).__doc__ or ""
    # The checker's docstring quotes fields of the problem too, which are no rules.
    rules = set(re.findall(r"``([\w-]+)``", text)) - {field.name for field in fields(TrainProblem)}
    assert len(rules) > 5
    assert [name for name in (*declared.methods, *rules, declared.plan_format) if f"`{name}`" not in page] == []
