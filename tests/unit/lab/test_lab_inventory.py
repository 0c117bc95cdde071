"""Which nodes an inventory asks for, and what it must not ask for."""

from pathlib import Path

import pytest
from rackserve.lab.errors import LabError, RefusedError, UsageError
from rackserve.lab.inventory import NodeSpec, known, node_specs, read_inventory, remember
from rackserve.lab.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]


def _specs(tmp_path: Path, settings: Settings, text: str) -> list[NodeSpec]:
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    return node_specs(path, read_inventory(path), settings)


def test_the_repositorys_own_lab_has_its_four_nodes(settings: Settings) -> None:
    path = REPOSITORY / "inventory" / "lab"
    assert [(spec.name, spec.address, spec.os) for spec in node_specs(path, read_inventory(path), settings)] == [
        ("gpu1", "198.18.0.21", "debian-12"),
        ("gpu2", "198.18.0.22", "debian-12"),
        ("lb1", "198.18.0.11", "debian-13"),
        ("lb2", "198.18.0.12", "debian-13"),
    ]


def test_group_variables_count_and_hosts_without_lab_os_are_no_nodes(tmp_path: Path, settings: Settings) -> None:
    text = """\
all:
  hosts:
    real: {ansible_host: 192.0.2.9}
  children:
    small:
      vars: {lab_os: debian-12, lab_disk_gib: 2}
      hosts:
        a1: {ansible_host: 198.18.0.31}
        a2: {ansible_host: 198.18.0.32, lab_disk_gib: 5}
"""
    assert _specs(tmp_path, settings, text) == [
        NodeSpec("a1", "198.18.0.31", "debian-12", 2),
        NodeSpec("a2", "198.18.0.32", "debian-12", 5),
    ]


def _one(name: str = "n1", address: str = "198.18.0.31", system: str = "debian-12", disk: str = "1") -> str:
    return f"all: {{hosts: {{{name}: {{ansible_host: {address}, lab_os: {system}, lab_disk_gib: {disk}}}}}}}\n"


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (_one(system="debian-11"), UsageError, "lab_os is 'debian-11', allowed are debian-12, debian-13. Did you mean"),
        (_one(system="'{{ os }}'"), UsageError, "lab_os is '{{ os }}'"),
        (_one(disk="0"), UsageError, "lab_disk_gib is 0, allowed is a whole number of GiB from 1 to 1024"),
        (_one(disk="1.5"), UsageError, "lab_disk_gib is 1.5"),
        (_one(disk="yes"), UsageError, "lab_disk_gib is True"),
        (_one(address="10.0.0.1"), UsageError, "ansible_host 10.0.0.1 is not free for a node"),
        (_one(address="198.18.0.1"), UsageError, "ansible_host 198.18.0.1 is not free for a node"),
        (_one(address="198.18.0.255"), UsageError, "ansible_host 198.18.0.255 is not free for a node"),
        (_one(address="gpu.example"), UsageError, "needs an IPv4 address in 198.18.0.0/24"),
        ("all: {hosts: {n1: {lab_os: debian-12}}}\n", UsageError, "ansible_host is None"),
        (_one(name="Node_1"), UsageError, "'Node_1' cannot be a node's name"),
        ("all: {hosts: {n1: {ansible_host: 198.18.0.31}}}\n", RefusedError, "none of its 1 hosts has lab_os"),
        ("all:\n  hosts:\n   n1: [\n", UsageError, "cannot be read"),
        (
            "all: {vars: {lab_os: debian-12, ansible_host: 198.18.0.31}, hosts: {n1: {}, n2: {}}}\n",
            UsageError,
            "hosts n1 and n2 both have ansible_host 198.18.0.31",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_with_place_and_value(
    tmp_path: Path, settings: Settings, text: str, kind: type[LabError], expected: str
) -> None:
    with pytest.raises(kind) as refused:
        _specs(tmp_path, settings, text)
    assert str(tmp_path / "hosts.yml") in str(refused.value)
    assert expected in str(refused.value)


def test_a_remembered_inventory_is_read_again_as_soon_as_a_file_of_it_changes(tmp_path: Path) -> None:
    cache, inventory = tmp_path / "cache", tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    hosts = inventory / "hosts.yml"
    hosts.write_text(_one())
    first = read_inventory(inventory, cache)
    assert not cache.exists(), "reading alone writes nothing"
    remember(inventory, first, cache)
    (kept,) = (cache / "inventories").iterdir()
    kept.write_text(kept.read_text().replace("debian-12", "debian-13"))
    assert read_inventory(inventory, cache)["n1"]["lab_os"] == "debian-13", "what was remembered is what is read"

    hosts.write_text(_one(disk="2"))
    assert read_inventory(inventory, cache) == {
        "n1": {"ansible_host": "198.18.0.31", "lab_os": "debian-12", "lab_disk_gib": 2}
    }
    (inventory / "more.yml").write_text(_one(name="n2", address="198.18.0.32"))
    assert set(read_inventory(inventory, cache)) == {"n1", "n2"}


def test_an_inventory_made_by_a_program_is_asked_each_time(tmp_path: Path) -> None:
    script = tmp_path / "hosts.sh"
    script.write_text(
        '#!/bin/sh\necho \'{"all": {"hosts": ["n1"]}, "_meta": {"hostvars": {"n1": {"lab_os": "debian-12"}}}}\'\n'
    )
    script.chmod(0o755)
    hosts = read_inventory(script, tmp_path / "cache")
    assert hosts == {"n1": {"lab_os": "debian-12"}}
    remember(script, hosts, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_inventory_is_named_with_the_way_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no inventory at .*/nowhere. Give one with -i"):
        read_inventory(tmp_path / "nowhere")


def test_an_unknown_node_is_refused_with_the_near_miss() -> None:
    assert known("gpu1", ["gpu1", "lb1"]) == "gpu1"
    with pytest.raises(
        UsageError, match=r"no lab node 'gup1'. Did you mean gpu1\? The lab's nodes are gpu1, lb1."
    ) as e:
        known("gup1", ["lb1", "gpu1"])
    assert e.value.exit_code == 2
    with pytest.raises(UsageError, match=r"The lab has no nodes. Run scripts/lab up"):
        known("gpu1", [])
