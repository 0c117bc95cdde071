"""The pure parts of what touches the machine: control groups, base images, disks, node commands, refusals."""

from pathlib import Path

import pytest
from rackserve.lab import bases, disks, host, nodes
from rackserve.lab.bases import Recipe
from rackserve.lab.cgroups import hierarchies
from rackserve.lab.errors import RefusedError
from rackserve.lab.inherit import Mirrors
from rackserve.lab.inventory import NodeSpec
from rackserve.lab.rack import UpPlan
from rackserve.lab.settings import Settings

HYBRID = """\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
"""
UNIFIED = "31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_hierarchies_of_systemd_are_found_in_both_layouts() -> None:
    assert hierarchies(HYBRID) == [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd")]
    assert hierarchies(UNIFIED) == [Path("/sys/fs/cgroup")]


def _recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "os": "debian-12",
        "mirrors": Mirrors("http://m.example/debian", "http://m.example/security"),
        "certificates": {},
        "proxies": {},
    }
    return Recipe(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"os": "debian-13"},
        {"mirrors": Mirrors("http://m.example/debian", "http://other.example/security")},
        {"certificates": {"ab": "PEM"}},
        {"proxies": {"http_proxy": "http://p.example"}},
    ],
)
def test_a_base_has_another_name_as_soon_as_its_recipe_differs(change: dict[str, object]) -> None:
    assert _recipe().name == _recipe().name
    assert _recipe(**change).name != _recipe().name


def test_apt_in_a_node_gets_the_proxies_that_apt_understands() -> None:
    text = _recipe(proxies={"https_proxy": "http://p.example:1", "no_proxy": "localhost"}).apt_conf()
    assert 'Acquire::https::Proxy "http://p.example:1";' in text.splitlines()
    assert "localhost" not in text


def test_old_bases_go_and_those_in_use_or_of_other_systems_stay(tmp_path: Path) -> None:
    recipe = _recipe()
    names = [recipe.name, "debian-12-old", "debian-12-used", "debian-13-old", "debian-12.log"]
    for name in names:
        (tmp_path / "bases" / name).mkdir(parents=True)
    bases.remove_unused(tmp_path, [recipe], {str(tmp_path / "bases" / "debian-12-used")})
    left = sorted(entry.name for entry in (tmp_path / "bases").iterdir())
    assert left == sorted([recipe.name, "debian-12-used", "debian-13-old", "debian-12.log"])


def test_an_unfinished_build_is_seen_and_removed(tmp_path: Path) -> None:
    (tmp_path / "bases" / ".building-debian-12-ab" / "etc").mkdir(parents=True)
    assert bases.has_unfinished(tmp_path)
    bases.remove_unfinished(tmp_path)
    assert not bases.has_unfinished(tmp_path)


def test_downloaded_packages_are_kept_once(settings: Settings, tmp_path: Path) -> None:
    downloads = settings.node_directory("n1") / "layer" / "upper" / disks.ARCHIVES
    downloads.mkdir(parents=True)
    (downloads / "a_1_all.deb").write_text("a")
    (downloads / "lock").write_text("")
    archives = tmp_path / "archives"
    assert disks.harvest(settings, "n1", archives) == 1
    assert disks.harvest(settings, "n1", archives) == 0
    assert [entry.name for entry in archives.iterdir()] == ["a_1_all.deb"]


def test_nspawn_gets_the_nodes_own_names_and_every_bound_directory(settings: Settings) -> None:
    command = nodes.nspawn_command(settings, "gpu1", [Path("/opt/wheels")])
    root = settings.node_directory("gpu1") / "root"
    for argument in (
        f"--directory={root}",
        "--hostname=gpu1",
        "--network-bridge=rackserve0",
        "--bind-ro=/opt/wheels",
        f"--bind={settings.cache}/uv:/var/cache/uv",
    ):
        assert argument in command


def test_ssh_uses_the_labs_key_and_hosts_and_no_personal_configuration(settings: Settings) -> None:
    command = nodes.ssh_command(settings, "198.18.0.11", "sudo", "true")
    assert command[:3] == ["ssh", "-F", "none"]
    assert f"IdentityFile={settings.state}/ssh/id_ed25519" in command
    assert command[-3:] == ["rackadmin@198.18.0.11", "sudo", "true"]


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROGRAMS", {"sh": "dash", "no-such-program": "its-package"})
    with pytest.raises(RefusedError, match=r"lacks no-such-program\..*apt-get install its-package"):
        host.check_programs()


def test_too_little_space_is_refused_with_both_numbers(settings: Settings) -> None:
    with pytest.raises(RefusedError, match=r"GiB free, this needs 1000000000.0 GiB") as refused:
        host.check_space(settings, new_bases_gib=1e9, new_nodes=0)
    assert refused.value.exit_code == 4
    host.check_space(settings, new_bases_gib=0, new_nodes=0)


def test_a_plan_without_work_says_so() -> None:
    spec = NodeSpec("n1", "198.18.0.31", "debian-12", 1)
    assert UpPlan((), (), False).nothing
    assert not UpPlan((), (spec,), False).nothing
    assert not UpPlan((), (), True).nothing
