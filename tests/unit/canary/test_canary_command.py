"""scripts/canary before anything is changed: what it refuses, with which words and code; and what runs come to."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from rackserve.canary.command.drive import gate_of
from rackserve.canary.command.load import Load, NotKnown
from rackserve.canary.command.look import attended, told
from rackserve.canary.command.prepare import Asked, keep_access, kept_access, new_run, prepared
from rackserve.canary.command.words import ended, intention
from rackserve.canary.run.command import Row
from rackserve.canary.run.goto import begun
from rackserve.canary.run.plan import Refused
from rackserve.canary.run.record import Hold, Moment, Record, State, Why
from rackserve.canary.world.site import Access, Unknown
from rackserve.definition.load import InventoryError

from .played import Played, on_disk, plan, start, to_the_end

REPOSITORY = Path(__file__).resolve().parents[3]
NOW = Moment(boot="b", seconds=0, wall=0)


def record(**changes: Any) -> Record:
    return begun(NOW).model_copy(update=changes)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two servers with an engine each, a release that no pool runs yet, and no monitor."""
    folder = tmp_path_factory.mktemp("inventory") / "pair"
    shutil.copytree(REPOSITORY / "inventory/pair", folder)
    file = folder / "group_vars/all/service.yml"
    text = file.read_text()
    release = text[text.index("  assistant-8b-1:\n    package") : text.index("\nservice_pools:")]
    file.write_text(
        text.replace("\nservice_pools:", release.replace("assistant-8b-1:", "assistant-8b-2:") + "\nservice_pools:")
    )
    hosts = folder / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("monitors:", "others:"))
    return folder


def changed(pair: Path, folder: Path, old: str, new: str) -> Path:
    shutil.copytree(pair, folder / "changed")
    file = folder / "changed/group_vars/all/service.yml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return folder / "changed"


def asked(inventory: Path, root: Path, **changes: Any) -> Any:
    wish: dict[str, Any] = {"pool": "assistant", "release": "assistant-8b-2", "by": "ann@desk", "peak": 20} | changes
    return prepared(Asked(**wish), Access(inventory), root)


def test_two_engines_can_try_a_release_and_it_is_said_what_is_not_judged(pair: Path, tmp_path: Path) -> None:
    found = asked(pair, tmp_path)
    assert (found.plan.canary, found.plan.baseline, found.plan.same_model) == ("assistant-server2", None, True)
    assert [level.name for level in found.plan.levels][-1] == "load parity (50 %)"
    assert any("latency only at load parity" in note for note in found.plan.notes)
    assert found.plan.limits == {"errors": pytest.approx(0.01), "slow_ttft": pytest.approx(0.05)}
    assert found.site.pages["balancer1" if "balancer1" in found.site.pages else next(iter(found.site.pages))].endswith(
        "/metrics"
    )
    said = "\n".join(intention(found.plan, found.load, 24))
    assert "assistant-8b-2 on pool assistant, which runs assistant-8b-1" in said


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"pool": "chat"}, Unknown, "'chat' is no pool of the definition. There is: assistant"),
        ({"release": "x"}, Unknown, "'x' is no release of the definition. There are: assistant-8b-1, assistant-8b-2"),
        ({"release": "assistant-8b-1"}, Unknown, "try A against A with --trial"),
        ({"engine": "gpu9"}, Refused, "engine gpu9 is not of pool assistant; its engines: assistant-server1"),
        ({"peak": 30}, Refused, "without the canary's engine pool assistant has 1 engines, and today's peak needs 2"),
        ({"peak": None}, NotKnown, "--peak N says how many"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    pair: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as found:
        asked(pair, tmp_path, **changes)
    assert said in str(found.value)


ENGINE = "      - {name: assistant-server2, node: server2, port: 8001, gpus: [0]}\n"


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (ENGINE, "", Refused, "add a second engine, or announce it (scripts/maintenance"),
        ("service_lanes:", "service_canary: {steps_percent: [5, 1]}\nservice_lanes:", InventoryError, "do not rise"),
        ("service_lanes:", "service_canary: {steps_percent: [60]}\nservice_lanes:", InventoryError, "up to 50"),
    ],
)
def test_a_definition_that_allows_no_run_says_why(
    pair: Path, tmp_path: Path, old: str, new: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as found:
        asked(changed(pair, tmp_path, old, new), tmp_path)
    assert said in str(found.value)


def test_without_a_watchdog_somebody_has_to_promise_to_stay() -> None:
    assert "--unwatched" in attended(unwatched=False)
    assert "scripts/rollback POOL" in attended(unwatched=False)
    assert attended(unwatched=True) == ""


def test_the_command_ends_with_a_line_and_a_code(pair: Path, tmp_path: Path) -> None:
    words = [str(REPOSITORY / "scripts/canary"), "start", "--pool", "assistant", "--release", "nope", "-i", str(pair)]
    done = subprocess.run([*words, "--runs", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("canary: 'nope' is no release")


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"at": State.DONE, "over": True}, 0, "or the next site.yml goes back"),
        ({"at": State.ROLLED_BACK, "over": True, "touched": ("e1",), "reason": "Too slow."}, 1, "rolled back"),
        ({"at": State.ROLLED_BACK, "over": True, "reason": "taken"}, 4, "nothing was changed: taken"),
        ({"at": State.HALTED, "reason": "look"}, 4, "scripts/canary resume"),
        (
            {"at": State.ROLLED_BACK, "over": True, "touched": ("e1",), "troubles": ("e1 is dead",)},
            1,
            "by hand: e1 is dead",
        ),
        ({"at": State.STEP}, 4, "not over"),
    ],
)
def test_what_a_run_came_to_is_a_code_and_a_sentence(changes: dict[str, Any], code: int, said: str) -> None:
    found = ended(plan(4), record(**changes))
    assert found[0] == code
    assert said in found[1]


def test_a_trial_that_found_nothing_is_done() -> None:
    trial = plan(4).model_copy(update={"trial": True})
    over = record(at=State.ROLLED_BACK, over=True, touched=("e1",), reason="The trial is over, and nothing was found.")
    assert ended(trial, over)[0] == 0
    assert ended(trial, over.model_copy(update={"troubles": ("e1 is dead",)}))[0] == 1
    assert ended(trial, over.model_copy(update={"reason": "Errors."}))[0] == 1


def test_promote_opens_the_last_gate_and_no_other() -> None:
    own = plan(4)
    last = len(own.levels) - 1
    gated = own.model_copy(
        update={"levels": (*own.levels[:last], own.levels[last].model_copy(update={"gate": 25.0}))}
    )  # fmt: skip
    held = record(at=State.STEP, level=last - 1, hold=Hold(why=Why.GATE, reason="waits"))
    assert gate_of(Row(Path("r"), gated, held)) == (25.0, "")
    assert gate_of(Row(Path("r"), gated, held.model_copy(update={"level": 0})))[0] is None
    assert gate_of(Row(Path("r"), own, held))[1].startswith("run r1 has no gate")
    assert "is over" in gate_of(Row(Path("r"), gated, record(over=True)))[1]


@pytest.mark.parametrize("kind", ["pause", "abort"])
def test_a_run_that_is_over_is_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: Any) -> None:
    world = Played(plan(4))
    to_the_end(start(world, tmp_path / "small" / "r1", on_disk), world)
    with pytest.raises(typer.Exit) as found:
        told("r1", kind, tmp_path, as_json=True)
    assert found.value.exit_code == 4
    said = capsys.readouterr()
    assert json.loads(said.out)["said"].startswith("it is over: run r1: Pool small runs small-2.")
    assert "nobody drives" not in said.err


def test_engines_for_a_peak_are_whole_ones_and_at_least_one() -> None:
    assert [Load(peak).fewest(24) for peak in (0, 1, 24, 25, 48.5)] == [1, 1, 1, 2, 3]


def test_who_takes_a_run_up_need_not_know_its_inventory(tmp_path: Path) -> None:
    access = Access(tmp_path / "inventory", ("prod@prompt",), (tmp_path / "pass",))
    keep_access(tmp_path / "run", access)
    assert kept_access(tmp_path / "run") == access
    (tmp_path / "run" / "access.json").write_text(json.dumps({"inventory": 1}))
    assert kept_access(tmp_path / "run") is None


def test_ids_of_runs_sort_by_their_time() -> None:
    assert new_run(0.0, "00ff") == "19700101-000000-00ff"
    assert new_run(1e9, "0000") < new_run(2e9, "0000")
