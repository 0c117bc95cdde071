"""Scripts render a balancer with what site.yml hands to the role haproxy: else their digests would differ for ever."""

from pathlib import Path

import yaml
from rackserve.fleet.haproxy_variables import handed_over

REPOSITORY = Path(__file__).resolve().parents[3]


def test_scripts_and_site_hand_the_same_to_the_role() -> None:
    plays = yaml.safe_load((REPOSITORY / "playbooks/site.yml").read_text())
    roles = [role for play in plays for role in play.get("roles", ()) if role["role"] == "haproxy"]
    (given,) = (role["vars"] for role in roles)
    own = handed_over({"name": "plan"}, "key")
    assert set(given) == set(own)
    plain = {name: value for name, value in given.items() if "{{" not in value}
    assert plain == {name: own[name] for name in plain}
    assert plain, "else nothing is compared"
