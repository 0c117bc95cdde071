"""What the operational alerts are made of. What they do is tested with promtool in tests/gateway."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rackserve import slo
from rackserve.alerts import rules
from rackserve.definition.read import Definition

Make = Callable[..., Definition]
REPOSITORY = Path(__file__).parents[3]
RUNBOOKS = REPOSITORY / "docs" / "runbooks"


def alerts(definition: Definition, name: str | None = None) -> list[dict[str, Any]]:
    every = [rule for group in rules(definition)["groups"] for rule in group["rules"]]
    return [rule for rule in every if name in (None, rule["alert"])]


def only(definition: Definition, name: str) -> dict[str, Any]:
    (rule,) = alerts(definition, name)
    return rule


def bound(rule: dict[str, Any]) -> float:
    """The last number of the expression, which is what its value is compared with."""
    return float(re.findall(r"[<>]=? ([\d.]+)", rule["expr"])[0])


def test_every_alert_has_a_runbook_that_begins_with_the_first_action(define: Make) -> None:
    for rule in alerts(define()):
        runbook = REPOSITORY / rule["annotations"]["runbook"]
        assert runbook.is_file(), f"{rule['alert']}: no {runbook}"
        first, blank, heading = runbook.read_text().splitlines()[:3]
        assert first.startswith("First: "), runbook
        assert blank == ""
        assert heading.startswith(f"# {rule['alert']}: "), runbook


def test_every_runbook_belongs_to_an_alert(define: Make) -> None:
    declared = {rule["annotations"]["runbook"] for rule in alerts(define())}
    left = {f"docs/runbooks/{path.name}" for path in RUNBOOKS.glob("*.md")} - declared
    assert left == {"docs/runbooks/slo-burn.md", "docs/runbooks/slo-no-data.md"}


def test_runbooks_lead_to_pages_that_exist() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (RUNBOOKS / target).is_file(), f"{page.name}: {target}"


def test_every_reason_of_an_alert_stands_in_its_runbook(define: Make) -> None:
    for rule in alerts(define()):
        if reason := rule["labels"].get("reason"):
            assert f"`{reason}`" in (REPOSITORY / rule["annotations"]["runbook"]).read_text(), rule["labels"]


def test_an_alert_is_a_page_or_a_ticket_and_only_the_dead_man_is_neither(define: Make) -> None:
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in alerts(define())}
    assert severities.pop("Watchdog") == "none"
    assert set(severities.values()) == {"page", "ticket"}


def test_every_alert_says_what_happened_in_its_figures(define: Make) -> None:
    for rule in alerts(define()):
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        if rule["alert"] not in {"Watchdog", "BalancerGone"}:
            assert re.search(r"\d|\$value", rule["annotations"]["description"]), rule["alert"]


def test_what_rules_read_comes_from_the_agreed_jobs(define: Make) -> None:
    jobs = {"traffic", "haproxy", "vllm", "probe", "node", "prometheus", "alertmanager", "prometheus|alertmanager"}
    for rule in alerts(define()):
        selectors = re.findall(r"[a-z][\w:]*\{([^}]*)\}", rule["expr"])
        assert all(re.match(r'job=~?"([^"]*)"', text)[1] in jobs for text in selectors), rule["expr"]  # type: ignore[index]


def test_no_two_alerts_have_the_same_labels(define: Make) -> None:
    found = [(rule["alert"], *sorted(rule["labels"].items())) for rule in alerts(define())]
    assert len(set(found)) == len(found)


def test_groups_have_other_names_than_those_of_slos(define: Make) -> None:
    names = [group["name"] for group in (*rules(define())["groups"], *slo.rules(define())["groups"])]
    assert len(set(names)) == len(names)


def test_a_pool_of_one_engine_has_none_to_spare(define: Make) -> None:
    assert alerts(define(engines=1), "PoolWithoutSpare") == []
    assert only(define(engines=1), "PoolDown")


@pytest.mark.parametrize(
    ("engines", "spare", "last"), [(2, 0, 1), (2, 1, 1), (8, 0, 1), (8, 2, 6), (32, 8, 24), (3, 3, 1)]
)
def test_spare_is_gone_when_one_less_could_not_carry_the_peak(
    define: Make, engines: int, spare: int, last: int
) -> None:
    assert bound(only(define(engines=engines, spare_engines=spare), "PoolWithoutSpare")) == last


@pytest.mark.parametrize(
    ("places", "balancers", "limit"), [(10, 1, 8), (10, 2, 4), (512, 2, 204.8), (3, 2, 1.6), (1, 2, 0.8)]
)
def test_a_queue_fills_at_four_fifths_of_a_balancers_own_places(
    define: Make, places: int, balancers: int, limit: float
) -> None:
    assert bound(only(define(places=places, balancers=balancers), "QueueFilling")) == pytest.approx(limit)


def test_a_pool_without_a_queue_has_none_that_fills(define: Make) -> None:
    assert alerts(define(places=0), "QueueFilling") == []


@pytest.mark.parametrize(("silence", "window"), [(120.0, "120s"), (300.5, "301s"), (20.0, "120s")])
def test_an_engine_may_be_silent_for_as_long_as_its_pool_says(define: Make, silence: float, window: str) -> None:
    expression = only(define(timeouts={"silence_seconds": silence}), "RunningWithoutTokens")["expr"]
    assert set(re.findall(r"\[(\d+s)", expression)) == {window}


def test_every_engine_of_the_pool_and_no_other_is_watched(define: Make) -> None:
    matched = re.search(r'server=~"([^"]*)"', only(define(engines=3), "EngineOut")["expr"])
    assert matched is not None
    assert matched[1].split("|") == ["p-0", "p-1", "p-2"]


def test_one_balancer_has_nobody_to_disagree_with(define: Make) -> None:
    alone = define(balancers=1)
    assert alerts(alone, "BalancersDisagree") == []
    assert [rule["labels"]["severity"] for rule in alerts(alone, "BalancerGone")] == ["page"]


def test_a_certificate_is_watched_where_there_is_one(define: Make) -> None:
    reasons = [rule["labels"]["reason"] for rule in alerts(define(), "CertificateRunningOut")]
    assert reasons == ["soon", "renew", "unread"]
    assert alerts(define(tls=False), "CertificateRunningOut") == []


def test_each_host_of_the_definition_has_to_be_heard_of(define: Make) -> None:
    assert [rule["labels"]["node"] for rule in alerts(define(), "NodeGone")] == ["lb1", "lb2", "g1", "m1"]
    assert [rule["labels"]["node"] for rule in alerts(define(), "BalancerGone")] == ["lb1", "lb2", "all"]


def test_only_what_users_feel_or_what_stops_a_host_wakes_somebody(define: Make) -> None:
    pages = {rule["alert"] for rule in alerts(define()) if rule["labels"]["severity"] == "page"}
    assert pages == {
        "PoolDown",
        "AdmissionRejections",
        "RunningWithoutTokens",
        "BalancerGone",
        "DiskRunningOut",
        "CertificateRunningOut",
        "PrometheusTrouble",
    }


def test_alerts_know_the_definition_and_nothing_else() -> None:
    for path in (REPOSITORY / "scripts/rackserve/alerts").glob("*.py"):
        tree = ast.parse(path.read_text())
        plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        named = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        ours = {name for name in named if name.startswith(("rackserve.alerts", "rackserve.definition"))}
        assert (plain | named) - ours <= {"math", "re", "typing"}, path
