"""Keys: the edit of the inventory, the rules of rotation, and balancers that follow without a reload."""

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rackserve.fleet import keys, keys_inventory
from rackserve.fleet.errors import RefusedError
from rackserve.fleet.haproxy_files import TEMPLATES, Candidate, render
from rackserve.fleet.keys_apply import KEYS_MAP, Applied, apply, entries_of, wanted_for
from rackserve.fleet.ssh import CommandHost

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from gateway.balancer import variables
from gateway.plan import plan, tenant
from unit.fleet.fake_haproxy import FakeHaproxy

REPOSITORY = Path(__file__).resolve().parents[3]
TODAY = datetime.date(2026, 6, 1)
HASH = "ab" * 32

BLOCK = """\
---
# a comment
service_tenants:
  demo:
    lane: interactive   # stays
    keys:
      # of the first key
      - {id: demo-1, sha256: "{{ vault_demo_key | hash('sha256') }}"}

  # about the other
  other:
    keys:
      - id: other-1
        sha256: aaaa
        lane: batch
      # at the end
    pools: [small]
  none:
    lane: batch
  empty:
    keys: []
    lane: batch
  flow:
    keys: [{id: f1, sha256: aa}, {id: f2, sha256: bb}]
service_ports: {api: 1}
"""


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line.strip() for line in old if line not in new], [line.strip() for line in new if line not in old]


@pytest.mark.parametrize(
    ("name", "removed", "added"),
    [
        ("demo", [], [f"- {{id: new, sha256: {HASH}}}"]),
        ("other", [], [f"- {{id: new, sha256: {HASH}}}"]),
        ("none", [], ["keys:", f"- {{id: new, sha256: {HASH}}}"]),
        ("empty", ["keys: []"], [f"- {{id: new, sha256: {HASH}}}"]),
        (
            "flow",
            ["keys: [{id: f1, sha256: aa}, {id: f2, sha256: bb}]"],
            [f"keys: [{{id: f1, sha256: aa}}, {{id: f2, sha256: bb}}, {{id: new, sha256: {HASH}}}]"],
        ),
    ],
)
def test_a_key_is_added_and_nothing_else_changes(name: str, removed: list[str], added: list[str]) -> None:
    after = keys_inventory.add_key(BLOCK, name, "new", HASH)
    assert yaml.safe_load(after)["service_tenants"][name]["keys"][-1] == {"id": "new", "sha256": HASH}
    gone, came = changed_lines(BLOCK, after)
    assert (gone, [line for line in came if line != "keys:"]) == (removed, [line for line in added if line != "keys:"])


@pytest.mark.parametrize(("name", "key"), [("demo", "demo-1"), ("other", "other-1"), ("flow", "f1"), ("flow", "f2")])
def test_a_key_is_removed_and_comments_stay(name: str, key: str) -> None:
    after = keys_inventory.remove_key(BLOCK, name, key)
    left = yaml.safe_load(after)["service_tenants"][name]["keys"]
    assert key not in [one["id"] for one in left]
    assert len(left) == (1 if name == "flow" else 0)
    assert [line for line in BLOCK.splitlines() if "#" in line] == [line for line in after.splitlines() if "#" in line]


@pytest.mark.parametrize(("name", "key"), [("demo", "demo-1"), ("other", "other-1"), ("flow", "f1")])
def test_an_expiry_is_set_and_moved(name: str, key: str) -> None:
    for day in ("2026-06-08", "2026-07-01"):
        after = keys_inventory.set_expiry(BLOCK, name, key, day)
        again = keys_inventory.set_expiry(after, name, key, "2027-01-01")
        assert yaml.safe_load(after)["service_tenants"][name]["keys"][0]["expires"] == day
        assert yaml.safe_load(again)["service_tenants"][name]["keys"][0]["expires"] == "2027-01-01"


def test_adding_and_removing_gives_the_same_text() -> None:
    for name in ("demo", "other", "flow"):
        assert keys_inventory.remove_key(keys_inventory.add_key(BLOCK, name, "x", HASH), name, "x") == BLOCK


@pytest.mark.parametrize(
    "text",
    [
        "service_tenants:\n  demo: {lane: x, pools: [y]}\n",
        'service_tenants:\n  demo:\n    keys: "{{ vault_keys }}"\n',
        'service_tenants: "{{ tenants }}"\n',
        "service_tenants:\n  other:\n    lane: x\n",
    ],
)
def test_what_cannot_be_edited_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(keys.KeyRefused, match=r"service_tenants\.demo"):
        keys_inventory.add_key(text, "demo", "new", HASH)


def test_an_edit_that_would_change_another_tenant_is_refused() -> None:
    """Two tenants with one list: a key for the one would be a key for both."""
    shared = "service_tenants:\n  demo:\n    keys: &both\n      - {id: a, sha256: aa}\n  twin:\n    keys: *both\n"
    with pytest.raises(keys.KeyRefused, match="keys of demo are written in a form that cannot be edited"):
        keys_inventory.add_key(shared, "demo", "new", HASH)


def test_a_linked_file_is_written_where_it_really_is(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yml", tmp_path / "link.yml"
    real.write_text("a: 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    keys_inventory.write(link, "a: 2\n")
    assert (real.read_text(), link.is_symlink(), real.stat().st_mode & 0o777) == ("a: 2\n", True, 0o640)


def some_plan(*keys_of_demo: tuple[str, str | None]) -> dict[str, Any]:
    made = [{"id": name, "sha256": "x", "lane": None, "expires": expires} for name, expires in keys_of_demo]
    return {"tenants": {"demo": {"lane": "interactive", "keys": made}}}


def test_an_id_is_never_given_twice() -> None:
    assert keys.free_id("demo", []) == "demo-1"
    assert keys.free_id("demo", ["demo-1", "demo-7", "laptop"]) == "demo-8"
    assert len(keys.free_id("d" * 40, ["a-9999"])) == 40


def test_expired_keys_are_shown_as_such_from_their_day_on() -> None:
    found = keys.listed(some_plan(("a", None), ("b", "2026-06-02"), ("c", "2026-06-01")), TODAY)
    assert [one.state for one in found] == ["valid", "expires", "expired"]


def test_the_validator_warns_of_expired_keys_with_the_command_that_removes_them(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(REPOSITORY / "inventory/lab", tmp_path / "lab"))
    file = copy / "group_vars/all/service.yml"
    file.write_text(keys_inventory.set_expiry(file.read_text(), "demo", "demo-1", "2020-01-01"))
    command = [str(REPOSITORY / "scripts/validate"), "-i", str(copy)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "the key demo-1 is refused since 2020-01-01 (UTC)" in done.stderr
    assert "scripts/keys revoke demo demo-1" in done.stderr


@pytest.mark.parametrize(
    ("existing", "wanted", "expected"),
    [
        ([("a", None)], None, "a"),
        ([("a", None), ("b", "2026-05-01")], None, "a"),
        ([("a", None), ("b", None)], "b", "b"),
    ],
)
def test_a_rotation_replaces_the_one_lasting_key(
    existing: list[tuple[str, str | None]], wanted: str | None, expected: str
) -> None:
    assert keys.key_to_replace(some_plan(*existing), "demo", wanted, TODAY) == expected


@pytest.mark.parametrize(
    ("existing", "wanted", "code", "reason"),
    [
        ([], None, 2, "0 lasting keys"),
        ([("a", None), ("b", None)], None, 4, "--key ID"),
        ([("a", "2026-06-05"), ("b", None)], None, 4, "under way: a of demo expires on 2026-06-05"),
        ([("a", None)], "z", 2, "no valid key z"),
    ],
)
def test_a_rotation_that_makes_no_sense_is_refused(
    existing: list[tuple[str, str | None]], wanted: str | None, code: int, reason: str
) -> None:
    with pytest.raises(keys.KeyRefused, match=reason) as caught:
        keys.key_to_replace(some_plan(*existing), "demo", wanted, TODAY)
    assert caught.value.exit_code == code


def test_a_key_does_not_show_itself() -> None:
    made = keys.make("demo-2")
    assert made.key not in repr(made)
    assert made.sha256 == hashlib.sha256(made.key.encode()).hexdigest()
    assert made.key != keys.make("demo-2").key


class Balancer:
    """A node's disk and a running HAProxy, both played."""

    def __init__(self, root: Path, fake: FakeHaproxy) -> None:
        self.root, self.fake = root, fake
        self.host = CommandHost("lb1", "192.0.2.1", (sys.executable, "-"))
        self.service = plan("192.0.2.1", 19000)

    def variables(self) -> dict[str, Any]:
        paths = {"haproxy_config_directory": str(self.root), "haproxy_runtime_directory": str(self.fake.path.parent)}
        return variables(self.service, **paths)

    def candidate(self) -> Candidate:
        return render(self.variables(), "lb1")

    def site(self) -> None:
        """What site.yml leaves behind."""
        candidate = self.candidate()
        folder = self.root / "candidates" / f"20260101T000000-{candidate.digest}"
        for file in candidate.files:
            (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (folder / file.path).write_text(file.text)
            if file.path.startswith("maps/"):
                self.fake.maps[file.path] = entries_of(file.text)
        (self.root / "current").unlink(missing_ok=True)
        (self.root / "current").symlink_to(f"candidates/{folder.name}")

    def apply(self) -> Applied:
        return apply(self.host, wanted_for(self.variables(), "lb1"))

    def agrees(self) -> bool:
        """Disk and process are what site.yml would make of the inventory."""
        candidate = self.candidate()
        texts = {file.path: file.text for file in candidate.files}
        disk = {path: (self.root / "current" / path).read_text() for path in texts}
        live = {path: self.fake.maps[path] for path in texts if path.startswith("maps/")}
        return disk == texts and live == {path: entries_of(texts[path]) for path in live}


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Balancer]:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "haproxy").write_text('#!/bin/sh\n[ -f "$3" ]\n')
    (programs / "haproxy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "run").mkdir()
    with FakeHaproxy(tmp_path / "run" / "admin.sock") as fake:
        one = Balancer(tmp_path / "haproxy", fake)
        one.site()
        yield one


def with_key(service: dict[str, Any], name: str, key: str, expires: str | None = None) -> None:
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    service["tenants"][name]["keys"].append(
        {"id": key, "sha256": sha256, "lane": None, "expires": expires, "limits": {}}
    )


def test_nothing_to_do_is_nothing_done(balancer: Balancer) -> None:
    assert balancer.apply() == Applied(0, ())


def test_a_new_key_reaches_process_and_files_and_site_finds_nothing_to_do(balancer: Balancer) -> None:
    with_key(balancer.service, "demo", "second", "2027-01-01")
    assert balancer.apply().changed
    assert balancer.agrees()
    assert balancer.fake.maps["maps/configuration.map"] == {"digest": balancer.candidate().digest}
    assert (balancer.root / "current").resolve().name.endswith(balancer.candidate().digest)
    assert not balancer.apply().changed


def test_a_revoked_key_leaves_first_where_it_is_asked_for(balancer: Balancer) -> None:
    balancer.service["tenants"]["demo"]["keys"] = []
    assert balancer.apply().changed
    assert balancer.agrees()
    writes = [one for one in balancer.fake.commands if one.split(" ")[0] in ("add", "set", "del", "commit")]
    assert writes[0].startswith(f"del map {KEYS_MAP} ")


def test_many_keys_are_sent_as_a_whole(balancer: Balancer) -> None:
    for number in range(60):
        with_key(balancer.service, "demo", f"bulk-{number}")
    balancer.apply()
    assert balancer.agrees()
    assert any(command.startswith("commit map") for command in balancer.fake.commands)


def test_a_tenant_with_pools_of_its_own_brings_its_menu(balancer: Balancer) -> None:
    """Values with spaces (names of models, the catalogue) do not travel as one word."""
    balancer.service["tenants"]["fresh"] = tenant("demo", "batch", ["wide", "many"]) | {"keys": []}
    with_key(balancer.service, "fresh", "its-first")
    balancer.apply()
    assert balancer.agrees()


def test_limits_that_are_filed_under_a_key_come_and_go_with_it(balancer: Balancer) -> None:
    """In the lab: the demo tenant has limits, and a new key of it brings its own line of the map."""
    numbers = dict.fromkeys(re.findall(r"'([a-z_]+)'", (TEMPLATES / "_limits.j2").read_text()), 10)
    balancer.service["limits"] = {"demo/demo-1": numbers}
    balancer.site()
    with_key(balancer.service, "demo", "demo-2")
    balancer.service["limits"]["demo/demo-2"] = numbers
    assert balancer.apply().waiting == ()
    assert balancer.agrees()


def test_other_edits_wait_for_site_and_the_key_works_all_the_same(balancer: Balancer) -> None:
    before = balancer.fake.maps["maps/configuration.map"]
    balancer.service["timeouts"] = balancer.service["timeouts"] | {"connect_seconds": 0.25}
    balancer.service["tenants"]["demo"]["keys"] = []
    applied = balancer.apply()
    assert applied.waiting == ("haproxy.cfg",)
    assert not [name for name in balancer.fake.maps[KEYS_MAP].values() if name.startswith("demo/")]
    assert "demo/" not in (balancer.root / "current" / KEYS_MAP).read_text(), "a reload must not bring it back"
    assert balancer.fake.maps["maps/configuration.map"] == before, "it does not run the new configuration"


def test_a_process_that_runs_something_else_never_says_it_is_new(balancer: Balancer) -> None:
    """A run killed between swap and reload: the files are new, the process is not."""
    balancer.fake.maps["maps/configuration.map"] = {"digest": "0123456789ab"}
    with_key(balancer.service, "demo", "second")
    balancer.apply()
    assert balancer.fake.maps["maps/configuration.map"] == {"digest": "0123456789ab"}


def test_a_run_killed_before_the_files_is_finished_by_the_next(balancer: Balancer, tmp_path: Path) -> None:
    with_key(balancer.service, "demo", "second")
    (tmp_path / "bin" / "haproxy").write_text("#!/bin/sh\necho '[ALERT] killed here'; exit 1\n")
    with pytest.raises(RefusedError, match="killed here"):
        balancer.apply()
    assert not balancer.agrees()
    (tmp_path / "bin" / "haproxy").write_text("#!/bin/sh\n")
    balancer.apply()
    assert balancer.agrees()


def test_a_balancer_without_site_is_refused_by_name(balancer: Balancer) -> None:
    (balancer.root / "current").unlink()
    with pytest.raises(RefusedError, match=r"site\.yml has not run on this balancer"):
        balancer.apply()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / "scripts/keys"), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["new", "nobody"], 2, "there is no tenant nobody. Known: demo, operations."),
        (["new", "demo", "--id", "demo-1"], 2, "demo has a key demo-1 already"),
        (["revoke", "demo", "demo-9"], 2, "demo has no key demo-9"),
        (["list", "-i", "inventory/nowhere"], 2, "there is no such inventory"),
        (["rotate", "demo", "--key", "x"], 2, "demo has no valid key x"),
    ],
)
def test_wrong_use_is_one_sentence_and_a_code(arguments: list[str], code: int, expected: str) -> None:
    done = run(*arguments)
    assert (done.returncode, expected in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_a_dry_run_shows_the_edit_and_changes_nothing() -> None:
    before = (REPOSITORY / "inventory/lab/group_vars/all/service.yml").read_text()
    done = run("rotate", "demo", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert '"replaces": "demo-1"' in done.stdout
    assert "sk-" not in done.stdout + done.stderr
    assert (REPOSITORY / "inventory/lab/group_vars/all/service.yml").read_text() == before
