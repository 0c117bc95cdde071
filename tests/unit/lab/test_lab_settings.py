"""Where a lab lives, and what is refused as a place for it."""

from pathlib import Path

import pytest
from rackserve.lab.errors import UsageError
from rackserve.lab.settings import settings_from


def test_without_variables_it_is_the_lab_of_the_documentation() -> None:
    settings = settings_from({})
    assert settings.state == Path("/var/lib/rackserve-lab")
    assert settings.cache == Path("/var/cache/rackserve")
    assert (settings.bridge, str(settings.network), str(settings.gateway)) == (
        "rackserve0",
        "198.18.0.0/24",
        "198.18.0.1",
    )
    assert str(settings.guarded) == "198.18.0.0/16"
    assert settings.table == "rackserve_lab"
    assert settings.machine("lb1") == "lb1"


def test_a_second_lab_shares_no_name_with_the_first() -> None:
    first = settings_from({})
    second = settings_from({"RACKSERVE_LAB_BRIDGE": "trial0", "RACKSERVE_LAB_NETWORK": "198.19.0.0/24"})
    assert second.table != first.table
    assert second.machine("lb1") != first.machine("lb1")
    assert second.guarded != first.guarded


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("RACKSERVE_LAB_NETWORK", "10.0.0.0/24", "must be a /16 to /28 inside 198.18.0.0/15"),
        ("RACKSERVE_LAB_NETWORK", "198.18.0.0/30", "must be a /16 to /28"),
        ("RACKSERVE_LAB_NETWORK", "198.18.0.1/24", "is not a network"),
        ("RACKSERVE_LAB_NETWORK", "lab", "is not a network"),
        ("RACKSERVE_LAB_BRIDGE", "a-bridge", "lower-case letters and digits"),
        ("RACKSERVE_LAB_BRIDGE", "bridgewithlongname", "2 to 11"),
        ("RACKSERVE_LAB_STATE", "var/lib/lab", "give an absolute path"),
        ("RACKSERVE_LAB_STATE", "/", "give an absolute path"),
        ("RACKSERVE_LAB_STATE", "/var", "two levels deep"),
        ("RACKSERVE_LAB_CACHE", "/var/cache/my lab", "without spaces, commas or colons"),
        ("RACKSERVE_LAB_CACHE", "/var/cache/a:b", "without spaces, commas or colons"),
    ],
)
def test_an_unusable_value_is_named_with_its_variable(variable: str, value: str, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        settings_from({variable: value})
    assert refused.value.exit_code == 2
    assert variable in str(refused.value)
    assert value in str(refused.value)
    assert expected in str(refused.value)
