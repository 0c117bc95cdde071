"""What operators have announced and taken out stands on the screen."""

import io
from typing import Any

from rackserve.fleet.errors import RefusedError
from rackserve.fleet.status.observe import observe
from rackserve.fleet.status.show import screen
from rackserve.fleet.status.snapshot import Drain, Maintenance, Snapshot
from rich.console import Console
from unit.status.playing import NOW, balancer, fleet, monitor


def record(step: str, holder: str = "", beat: float = NOW, **more: Any) -> dict[str, Any]:
    return {"engine": "e1", "by": "ann@desk", "since": NOW - 60, "step": step, "holder": holder, "beat": beat, **more}


def seen(*balancers: Any) -> Snapshot:
    return observe(fleet(balancers, [monitor("m1")]), deadline_seconds=5, clock=lambda: NOW)


def text(snapshot: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(screen(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_drain_is_told_with_who_and_whether_somebody_is_at_it() -> None:
    at_work = seen(balancer("lb1", records={"e1": record("draining", "ann@desk#1")}), balancer("lb2"))
    assert at_work.drains == (Drain("e1", "draining", "ann@desk", NOW - 60, True, "", ("lb1",)),)
    assert "nobody is at it" not in text(at_work)
    both = {"e1": record("drained", reason="new driver")}
    drained = seen(balancer("lb1", records=both), balancer("lb2", records=both))
    assert [(one.step, one.worked_on, one.balancers) for one in drained.drains] == [("drained", False, ("lb1", "lb2"))]
    assert "ann@desk: new driver" in text(drained)


def test_a_drain_whose_command_has_died_is_told_as_such() -> None:
    dead = seen(balancer("lb1", records={"e1": record("draining", "ann@desk#1", NOW - 31)}), balancer("lb2"))
    assert not dead.drains[0].worked_on
    assert "draining, and nobody is at it: run it again" in text(dead)


def test_maintenance_is_shown_until_its_end_and_where_balancers_differ() -> None:
    ends = int(NOW) + 600
    found = seen(balancer("lb1", maintenance={"small": ends, "old": int(NOW)}), balancer("lb2"))
    assert found.maintenance == (Maintenance("small", ends, ("lb1",)),)
    line = next(line for line in text(found).splitlines() if line.startswith("small") and "maintenance" in line)
    assert line.rstrip().endswith("lb1")
    assert "WORK" not in text(seen(balancer("lb1"), balancer("lb2")))


def test_records_that_cannot_be_read_are_missing_and_hide_nothing_else() -> None:
    broken = balancer("lb1", held=["192.0.2.10"])
    broken.answers["drains"] = RefusedError("192.0.2.1", "drains", "e1.json is broken")
    found = seen(broken, balancer("lb2"))
    assert [one.what for one in found.missing] == ["records of drains at lb1"]
    assert found.balancers[0].holds_address
