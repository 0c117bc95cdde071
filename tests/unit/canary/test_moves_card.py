"""What a rollback keeps of an inventory: used only while nothing has changed, or when there is nothing better."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rackserve.environment import REPOSITORY
from rackserve.canary.moves.card import Balancer, Card, NoCard, card_of, card_path, digest_of, keep

HOSTS = """all:
  vars: {ansible_user: rackadmin}
  children: {balancers: {hosts: {lb1: {ansible_host: 192.0.2.1}}}}
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text(HOSTS)
    return folder


def kept(inventory: Path, where: Path) -> Card:
    """As if it had been read before, with what no reader would say of it."""
    balancer = Balancer(
        name="lb1", address="192.0.2.1", command=("ssh",), paths={"socket": "s", "master": "m", "configuration": "c"}
    )
    card = Card(digest=digest_of(inventory), read_at=0, pools={"chat": ("e1",)}, balancers=(balancer,))
    keep(card, card_path(inventory, where))
    return card


def test_what_is_kept_is_used_while_nothing_has_changed_and_others_may_not_read_it(
    inventory: Path, tmp_path: Path
) -> None:
    card = kept(inventory, tmp_path)
    assert card_of(inventory, where=tmp_path) == (card, "")
    assert card_path(inventory, tmp_path).stat().st_mode & 0o777 == 0o600
    assert card.split("chat").paths["lb1"].runs == "/var/lib/rackserve/canary"


def test_an_inventory_that_cannot_be_read_any_more_does_not_stand_in_the_way(inventory: Path, tmp_path: Path) -> None:
    card = kept(inventory, tmp_path)
    (inventory / "hosts.yml").write_text("all: [")
    found, note = card_of(inventory, where=tmp_path)
    assert found == card
    assert "going by what it said at 1970-01-01 00:00:00 UTC" in note
    assert "hosts.yml" in note


def test_without_anything_kept_it_says_what_is_wrong(inventory: Path, tmp_path: Path) -> None:
    (inventory / "hosts.yml").write_text("all: [")
    with pytest.raises(NoCard, match=r"hosts\.yml"):
        card_of(inventory, where=tmp_path)
    card_path(inventory, tmp_path).write_text("{")
    with pytest.raises(NoCard):
        card_of(inventory, where=tmp_path)


def test_it_is_made_from_the_inventory_and_follows_it(tmp_path: Path) -> None:
    first, note = card_of(REPOSITORY / "inventory/pair", where=tmp_path)
    assert (note, [one.name for one in first.balancers]) == ("", ["server1", "server2"])
    (pool,) = first.pools
    split = first.split(pool)
    assert len(split.engines) == 2
    assert split.paths["server1"].socket == "/run/haproxy/admin.sock"
    assert split.balancers[1].name == "server2"
    again, _ = card_of(REPOSITORY / "inventory/pair", where=tmp_path)
    assert again == first, "read once"


def test_every_edit_counts_also_behind_a_link(inventory: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "all.yml").write_text("a: 1\n")
    (inventory / "group_vars/all").symlink_to(shared)
    (shared / "circle").symlink_to(shared)
    first = digest_of(inventory)
    (shared / "all.yml").write_text("a: 2\n")
    second = digest_of(inventory)
    (inventory / "hosts.yml").rename(inventory / "more.yml")
    assert len({first, second, digest_of(inventory), ""}) == 4


def test_what_depends_on_more_than_text_is_read_each_time(inventory: Path) -> None:
    (inventory / "group_vars/all.yml").write_text("ansible_host: \"{{ lookup('env', 'X') }}\"\n")
    assert digest_of(inventory) == ""
    (inventory / "group_vars/all.yml").unlink()
    assert digest_of(inventory) != ""
    (inventory / "dynamic.py").write_text("#!/usr/bin/python3\n")
    (inventory / "dynamic.py").chmod(0o755)
    assert digest_of(inventory) == ""


def test_the_command_does_not_wait_for_ansible(inventory: Path, tmp_path: Path) -> None:
    kept(inventory, tmp_path / "rackserve")
    command = [sys.executable, "-v", str(REPOSITORY / "scripts/rollback"), "nope", "-i", str(inventory)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert "'nope' is no pool. Pools: chat." in done.stderr
    loaded = {line.split()[1].strip("'") for line in done.stderr.splitlines() if line.startswith("import ")}
    assert "rackserve.canary.moves.card" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("ansible", "jinja2", "yaml", "httpx")}
