"""What removed nodes leave to later ones: the packages they have downloaded."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rackserve.lab import disks
from rackserve.lab.settings import Settings


def test_nodes_with_the_same_packages_are_harvested_side_by_side(settings: Settings, tmp_path: Path) -> None:
    nodes, packages = [f"n{number}" for number in range(4)], [f"package-{number}.deb" for number in range(200)]
    for node in nodes:
        source = settings.node_directory(node) / "layer" / "upper" / disks.ARCHIVES
        source.mkdir(parents=True)
        for package in packages:
            (source / package).write_text(package * 100)
    archives = tmp_path / "archives"
    with ThreadPoolExecutor(len(nodes)) as threads:
        new = list(threads.map(lambda node: disks.harvest(settings, node, archives), nodes))
    assert sum(new) >= len(packages)
    assert sorted(path.name for path in archives.iterdir()) == sorted(packages), "nothing missing, nothing half done"
