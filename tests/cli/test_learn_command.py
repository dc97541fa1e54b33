"""``pathloom learn``: a schedule file that reads back, pictures, and one clear line for every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer.main
from answers import Answer

from pathloom.cli.learn import app
from pathloom.learn.rates import GradientNormRecord, RatePlan, RecordedNorms, load_norms, load_rate_plan, save_norms
from pathloom.plan import InputError

STEPS = 400
U = np.linspace(0, 1, STEPS)
FALLING = 1 + 4 * np.exp(-U / 0.08)
COLLAPSING = np.exp(-8 * U)

Learn = Callable[..., Answer]


@pytest.fixture
def learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Learn:
    """Call the sub-command inside an empty folder; a mistake of the user comes back as the program's last line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        mistake = ""
        try:
            status = typer.main.get_command(app).main([str(a) for a in arguments], "learn", standalone_mode=False)
        except InputError as error:
            status, mistake = 2, f"pathloom: {error}\n"
        captured = capsys.readouterr()
        return Answer(status or 0, captured.out, captured.err + mistake)

    return run


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Make a run folder with the given norms (l2; the l1 norms are ten times as large)."""

    def make(norms: np.ndarray, optimizer: str = "sgd", name: str = "pilot") -> Path:
        records = GradientNormRecord(), GradientNormRecord()
        for step, norm in enumerate(norms):
            records[0].add(step, 10 * norm)
            records[1].add(step, norm)
        return save_norms(tmp_path / name / "norms.json", RecordedNorms(optimizer, *records)).parent

    return make


def test_a_run_gives_a_schedule_file_a_page_and_a_picture(learn: Learn, recorded, tmp_path: Path):
    answer = learn("refine-schedule", recorded(FALLING))
    assert answer.status == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "pilot",
        "pilot-schedule.json",
        "pilot-schedule.html",
        "pilot-schedule.png",
    }
    plan = load_rate_plan(tmp_path / "pilot-schedule.json")
    assert plan.steps == STEPS
    assert plan.factor(0) < 0.5  # the norms fall at the start: a warm-up
    assert plan.factor(STEPS) == 0
    assert (tmp_path / "pilot-schedule.png").read_bytes().startswith(b"\x89PNG")
    assert "running median" in (tmp_path / "pilot-schedule.html").read_text()
    assert "refined, l2" in answer.out


def test_the_object_says_what_was_made(learn: Learn, recorded, tmp_path: Path):
    answer = learn("refine-schedule", recorded(FALLING), "--json", "--steps", "1000", "--out", "next/rates.json")
    found = json.loads(answer.out)
    assert found["problem"]["name"] == "pilot"
    assert found["method"] == "refinement-l2"
    assert found["checked"] is True
    assert found["objective"]["value"] < 1  # a lower bound than linear decay's
    assert found["metrics"]["steps"] == 1000
    assert not found["metrics"]["guarded"]
    assert all((tmp_path / path).is_file() for path in found["files"].values())
    plan = load_rate_plan(tmp_path / "next" / "rates.json")
    assert plan.steps == 1000
    assert found["metrics"]["factors"]["0.5"] == pytest.approx(plan.factor(500))


@pytest.mark.parametrize(("optimizer", "norm"), [("sgd", "l2"), ("SGD with momentum", "l2"), ("AdamW", "l1")])
def test_the_optimizer_chooses_the_norm(learn: Learn, recorded, optimizer: str, norm: str):
    found = json.loads(learn("refine-schedule", recorded(FALLING, optimizer), "--json").out)
    assert found["metrics"]["norm"] == norm


def test_norms_that_collapse_give_linear_decay_and_the_reason(learn: Learn, recorded, tmp_path: Path):
    answer = learn("refine-schedule", recorded(COLLAPSING))
    assert answer.status == 0
    assert "falls back to linear decay: the gradient norms collapse" in answer.err
    plan = load_rate_plan(tmp_path / "pilot-schedule.json")
    assert plan.factors() == pytest.approx(1 - np.arange(STEPS) / STEPS, abs=1e-12)


def test_without_the_guard_the_degenerate_schedule_is_written(learn: Learn, recorded, tmp_path: Path):
    assert learn("refine-schedule", recorded(COLLAPSING), "--no-guard").status == 0
    assert load_rate_plan(tmp_path / "pilot-schedule.json").factors().argmax() > 0.6 * STEPS


def test_the_norms_file_itself_will_do(learn: Learn, recorded, tmp_path: Path):
    assert learn("refine-schedule", recorded(FALLING) / "norms.json").status == 0
    assert (tmp_path / "pilot-schedule.json").is_file()


def test_all_schedules_are_drawn_and_listed(learn: Learn, tmp_path: Path):
    answer = learn("schedules", "--steps", "200", "--warmup", "10")
    assert answer.status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"schedules.png"}
    for name in ("constant", "linear", "cosine", "one-cycle", "step", "wsd", "rex", "exponential", "linear@50-75"):
        assert any(line.split()[:1] == [name] for line in answer.out.splitlines()), name


def test_the_listed_schedules_read_back_as_plans(learn: Learn):
    found = json.loads(learn("schedules", "--json").out)
    plan = RatePlan.from_dict(found["schedules"]["rex"]["plan"])
    assert found["schedules"]["rex"]["factors"][3] == plan.factor(500) == pytest.approx(2 / 3)


# Mistakes: one line with the file and the key, and nothing written


def mistake(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda file: file.unlink(), "norms.json: no such file"),
        (lambda file: file.write_text("{"), "norms.json: line 1: is no JSON"),
        (lambda file: file.write_text("[]"), "norms.json: expected the gradient norms of a run, a JSON object"),
        (mistake(lambda c: c.update(format="pathloom-run-1")), "norms.json: format: expected 'pathloom-norms-1'"),
        (mistake(lambda c: c.pop("optimizer")), "norms.json: optimizer: expected the name"),
        (mistake(lambda c: c.update(optimizer="shampoo")), "norms.json: optimizer: cannot tell the norm for 'shampoo'"),
        (mistake(lambda c: c.pop("l1")), "norms.json: l1: missing"),
        (mistake(lambda c: c["l2"].pop("rows")), "norms.json: l2.rows: missing"),
        (mistake(lambda c: c["l2"]["rows"][3][2].append(1.0)), "norms.json: l2.rows: expected [first step"),
        (
            mistake(lambda c: c.update(l2=GradientNormRecord().to_dict())),
            "norms.json: l2: expected at least 20 gradient norms, found 0",
        ),
    ],
)
def test_a_file_that_holds_no_norms_is_refused(learn: Learn, recorded, tmp_path: Path, spoil, line: str):
    folder = recorded(FALLING)
    spoil(folder / "norms.json")
    answer = learn("refine-schedule", folder)
    assert answer.status == 2
    assert len(answer.lines) == 1
    assert line in answer.lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"pilot"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--norm", "l3"), "--norm: expected l1, l2 or auto"),
        (("--smoothing", "1"), "--smoothing: expected a share"),
        (("--out", "pilot"), "pilot: --out: is a folder"),
        (("--out", "rates.yaml"), "rates.yaml: --out: expected a name that ends in .json"),
        (("--out", "pilot/norms.json/rates.json"), "--out: "),
    ],
)
def test_options_that_make_no_sense_are_refused(learn: Learn, recorded, tmp_path: Path, options, line: str):
    answer = learn("refine-schedule", recorded(FALLING), *options)
    assert answer.status == 2
    assert line in answer.lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"pilot"}


def test_a_failure_while_drawing_leaves_the_old_files(learn: Learn, recorded, tmp_path: Path, monkeypatch):
    folder = recorded(FALLING)
    learn("refine-schedule", folder)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathloom.learn.rates.pictures.refinement_png", full)
    answer = learn("refine-schedule", folder, "--steps", "77")
    assert answer.status == 2
    assert "cannot be written: No space left on device" in answer.lines[0]
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"format": "pathloom-norms-1"}', "format: expected 'pathloom-rate-plan-1'"),
        ('{"format": "pathloom-rate-plan-1"}', "plan: missing"),
        ('{"format": "pathloom-rate-plan-1", "plan": {"steps": 3, "profile": {"name": "x"}}}', "plan.profile: name: "),
        ('{"format": "pathloom-rate-plan-1", "plan": {"steps": 0, "profile": {"name": "rex"}}}', "plan.steps: "),
        ("", "is empty"),
    ],
)
def test_a_schedule_file_with_a_mistake_is_refused_with_its_key(tmp_path: Path, content: str, line: str):
    file = tmp_path / "rates.json"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        load_rate_plan(file)
    assert str(file) in str(caught.value)
    assert line in str(caught.value)


def test_norms_survive_their_file(recorded, tmp_path: Path):
    norms = load_norms(recorded(FALLING) / "norms.json")
    again = load_norms(save_norms(tmp_path / "again.json", norms))
    assert (again.optimizer, again.l1.to_dict(), again.l2.to_dict()) == (
        norms.optimizer,
        norms.l1.to_dict(),
        norms.l2.to_dict(),
    )
