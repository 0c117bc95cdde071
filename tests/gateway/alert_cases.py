"""Figures of known shape for each operational alert, and the minutes at which it fires, stays silent and ends.

Sample n is taken at minute n (or n times `minutes`), and a rule that waits fires at the first look that is so long after
its first true one. Numbers of samples in promtool's notation: `5x3` is four fives.
"""

from collections.abc import Iterator
from statistics import linear_regression

from gateway.alert_making import CANARY, STABLE, Case, Series, case, one, sessions, status, up


def pools() -> Iterator[tuple[str, Case]]:
    both = status("UP", STABLE, lb2_1="1x40", lb2_2="1x40")
    lost = status("UP", STABLE, lb1_1="1x4 0x5 1x10", lb1_2="0x40")
    yield "down", case("PoolDown", {**lost, **both}, {4: 0, 6: 0, 7: 1, 10: 1, 11: 0}, severity="page", node="lb1")
    canary = status("UP", CANARY, lb1_2="1x40")
    yield "down-canary-serves", case("PoolDown", {**lost, **both, **canary}, {10: 0})
    # Without samples nothing is known; the last one counts for five minutes.
    gap = status("UP", STABLE, lb1_1="0x10 _x10 0x10")
    yield "down-scrape-gap", case("PoolDown", {**gap, **both}, {10: 1, 15: 1, 16: 0, 22: 0, 23: 1})
    spare = status("UP", STABLE, lb1_1="1x40", lb1_2="1x4 0x20 1x10")
    yield (
        "spare",
        case("PoolWithoutSpare", {**spare, **both}, {19: 0, 20: 1, 25: 1, 26: 0}, severity="ticket", pool="p"),
    )
    yield "spare-all-there", case("PoolWithoutSpare", both, {30: 0})
    yield "spare-none-left", case("PoolWithoutSpare", status("UP", STABLE, lb1_1="0x40", lb1_2="0x40"), {30: 0})
    # Waiting: 5 of the 5 places from minute 10 on, in two tracks. The mean of 5 minutes is above 4 from minute 14 to 31.
    running = {**sessions("server", STABLE, "8x60", server="p-1"), **sessions("server", CANARY, "0x60", server="p-2")}
    full = {**sessions("backend", STABLE, "8x9 12x20 8x20"), **sessions("backend", CANARY, "0x9 1x20 0x20"), **running}
    yield "queue", case("QueueFilling", full, {15: 0, 16: 1, 31: 1, 32: 0}, pool="p", node="lb1")
    below = {**sessions("backend", STABLE, "12x60"), **running}
    yield "queue-four-of-five", case("QueueFilling", below, {30: 0})


def rejections() -> Iterator[tuple[str, Case]]:
    def asked(refused: str, ok: str, reason: str = "queue_full") -> Series:
        place = {"job": "traffic", "node": "lb1", "pool": "p", "tenant": "t"}
        return {
            **one("rackserve_requests_total", ok, **place, outcome="ok"),
            **one("rackserve_requests_total", refused, **place, outcome="refused"),
            **one("rackserve_refusals_total", refused, **place, reason=reason),
        }

    name, page, ticket = "AdmissionRejections", {"severity": "page", "reason": "queue_full"}, {"severity": "ticket"}
    # 12 of 100, more than 20 of them after two minutes; and a tenth of ten minutes is left two minutes after the end.
    ends = asked("0+12x20 240x20", "0+88x40")
    yield "refused", case(name, ends, {3: 0, 4: 1, 21: 1, 22: 0}, pool="p", **page)
    twice = {
        name.replace("lb1", node): text for name, text in asked("0+1x40", "0+4x40").items() for node in ("lb1", "lb2")
    }
    yield "refused-at-two-balancers-20-in-10-minutes", case(name, twice, {40: 0}, **page)
    yield "refused-9-of-100", case(name, asked("0+9x40", "0+91x40"), {30: 0}, **page)
    yield "refused-19-in-10-minutes", case(name, asked("0+1.9x40", "0+2x40"), {40: 0}, **page)
    yield "refused-25-in-10-minutes", case(name, asked("0+2.5x40", "0+10x40"), {40: 1}, **page)
    # Asked: 1000 a minute until 20, then 50; from then on 10 of them refused, a tenth of ten minutes ten minutes later.
    calm = asked("0x20 10+10x20", "0+1000x20 20040+40x20")
    yield "refused-after-a-surge", case(name, calm, {31: 0, 32: 1}, **page)
    limit = "rate_limit_exceeded"
    over = asked("0+6x40", "0+4x40", limit)
    yield "limited", case(name, over, {5: 0, 6: 1}, tenant="t", reason=limit, **ticket)
    yield "limited-49-of-100", case(name, asked("0+4.9x60", "0+5.1x60", limit), {60: 0}, **ticket)
    yield "limited-18-in-30-minutes", case(name, asked("0+0.6x60", "0+0.1x60", limit), {60: 0}, **ticket)
    # 100 a minute until 60, then 1, of which 0.9 refused until 100. Half of thirty minutes at 90; 20 of them until 107.
    surge = asked("0x60 0.9+0.9x39 36x30", "0+100x60 6000.1+0.1x39 6005+1x29", limit)
    yield "limited-after-a-surge", case(name, surge, {91: 0, 92: 1, 107: 1, 108: 0}, **ticket)
    yield "limited-is-no-page", case(name, over, {30: 0}, severity="page")


def engines() -> Iterator[tuple[str, Case]]:
    gone = status("DOWN", "engines", lb1_1="0x4 1x20", lb2_1="0x4 1x10 0x10")
    yield "out", case("EngineOut", gone, {9: 0, 10: 1, 15: 1, 16: 0}, severity="ticket", engine="p-1", pool="p")
    yield "out-at-one", case("EngineOut", status("DOWN", "engines", lb1_1="1x30", lb2_1="0x30"), {20: 0})
    serves = status("UP", "engines", lb1_1="1x40", lb2_1="0x40")
    read = up("vllm", "1x4 0x15 1x10", pool="p", engine="p-1")
    yield "unread", case("EngineNotScraped", {**serves, **read}, {14: 0, 15: 1, 20: 1, 21: 0}, engine="p-1")
    yield "unread-no-target", case("EngineNotScraped", serves, {9: 0, 10: 1})
    yield "unread-out", case("EngineNotScraped", {**status("UP", "engines", lb1_1="0x40"), **read}, {20: 0})
    yield from hanging()
    # Open at four of eleven samples, from minute 24 to 31.
    opened = status("MAINT", "breakers", lb1_1="0x20 1x3 0x30")
    shut = status("MAINT", "engines", lb1_1="0x60")
    yield "breaker", case("BreakerOpen", {**opened, **shut}, {23: 0, 24: 1, 31: 1, 32: 0}, engine="p-1", node="lb1")
    taken_out = status("MAINT", "engines", lb1_1="0x9 1x5 0x60")
    yield "breaker-and-operator", case("BreakerOpen", {**opened, **taken_out}, {25: 0, 26: 1})
    started = one("process_start_time_seconds", "100x9 200x9 300x70", job="vllm", pool="p", engine="p-1")
    yield "restarts", case("EngineRestarts", started, {19: 0, 20: 1, 69: 1, 70: 0}, engine="p-1")
    yield from caches()
    yield from drifts()


def hanging() -> Iterator[tuple[str, Case]]:
    def engine(busy: str, generation: str, prompt: str) -> Series:
        of = {"job": "vllm", "pool": "p", "engine": "p-1"}
        return {
            **sessions("server", STABLE, busy, server="p-1"),
            **one("vllm:generation_tokens_total", generation, **of),
            **one("vllm:prompt_tokens_total", prompt, **of),
        }

    name, stalls = "RunningWithoutTokens", "0+10x10 100x10 110+10x10"
    looks = {12: 0, 13: 1, 21: 1, 22: 0}
    yield "hangs", case(name, engine("1x40", stalls, "7x40"), looks, severity="page", engine="p-1", pool="p")
    yield "hangs-after-a-prompt", case(name, engine("1x40", "7x40", stalls), looks)
    yield (
        "hangs-from-the-first-request",
        case(name, engine("0x9 2x20 0x5", "7x40", "7x40"), {12: 0, 13: 1, 30: 1, 31: 0}),
    )
    yield "idle", case(name, engine("0x40", "7x40", "7x40"), {30: 0})
    restarted = engine("1x40", "0+10x10 0+10x20", "7x10 0x20")
    yield "hangs-no-restart", case(name, restarted, {11: 0, 12: 0, 13: 0, 14: 0})


def caches() -> Iterator[tuple[str, Case]]:
    def cache(used: str, preempted: str) -> Series:
        of = {"job": "vllm", "instance": "192.0.2.3:8001", "exported_engine": "0", "engine": "p-1", "pool": "p"}
        return {**one("vllm:kv_cache_usage_perc", used, **of), **one("vllm:num_preemptions_total", preempted, **of)}

    name = "KvCachePressure"
    # Ten of eleven samples at 0.95 and one at 0.5 are 0.909.
    full = cache("0.5x9 0.95x30 0.5x20", "0+1x60")
    yield "cache", case(name, full, {23: 0, 24: 1, 41: 1, 42: 0}, engine="p-1")
    yield "cache-0.88", case(name, cache("0.88x60", "0+1x60"), {40: 0})
    yield "cache-without-preemption", case(name, cache("0.95x60", "3x60"), {40: 0})
    yield "cache-one-preemption", case(name, cache("0.95x60", "0x29 1x30"), {34: 0, 35: 1, 39: 1, 40: 0})


def drifts() -> Iterator[tuple[str, Case]]:
    def pair(metric: str, label: str, first: str, second: str) -> Series:
        of = {"job": "vllm", "pool": "p", "track": "stable"}
        return {
            **one(metric, "1x60", **of, engine="p-1", **{label: first}),
            # Every five minutes: there from 10 to 160.
            **one(metric, "_x2 1x30 stale", **of, engine="p-2", **{label: second}),
        }

    looks = {125: 0, 130: 1, 160: 1, 165: 0}
    kinds = {
        "release": ("up", "release"),
        "model": ("vllm:num_requests_running", "model_name"),
        "settings": ("vllm:cache_config_info", "cache_dtype"),
    }
    for reason, (metric, label) in kinds.items():
        yield f"drift-{reason}", case("ReleaseDrift", pair(metric, label, "a", "b"), looks, 5, reason=reason, pool="p")
        alike = pair(metric, label, "a", "a")
        yield f"drift-{reason}-alike", case("ReleaseDrift", alike, {160: 0}, 5, reason=reason)
    canary = up("vllm", "1x60", pool="p", engine="p-2", track="canary", release="b")
    yield (
        "drift-canary",
        case("ReleaseDrift", {**pair("up", "release", "a", "a"), **canary}, {160: 0}, 5, reason="release"),
    )


def probes() -> Iterator[tuple[str, Case]]:
    name, rest = "ProbeDown", up("probe", "1x60", node="g2")
    away = up("probe", "1x4 0x10 1x10", node="g1")
    yield "probe", case(name, {**away, **rest}, {7: 0, 8: 1, 15: 1, 16: 0}, reason="gone", node="g1")
    yield "probe-no-target", case(name, rest, {2: 0, 3: 1}, reason="gone", node="g1")
    of, drop = {"job": "probe", "node": "g1", "engine": "p-1", "pool": "p"}, "0x4 1x20 0x10"
    for reason, metric in (("blind", "blind"), ("deadline", "deadline_short")):
        series = one(f"rackserve_probe_{metric}", drop, **of)
        yield f"probe-{reason}", case(name, series, {14: 0, 15: 1, 25: 1, 26: 0}, reason=reason, engine="p-1")
    hung = one("rackserve_probe_state", drop, **of, state="hung")
    looks = {5: 0, 6: 1, 25: 1, 26: 0}
    yield "hung", case("EngineHung", hung, looks, reason="hangs", engine="p-1", pool="p")
    serving = one("rackserve_probe_state", "1x40", **of, state="serving")
    yield "hung-not", case("EngineHung", serving, {30: 0}, reason="hangs")
    restarted = one("rackserve_probe_restarts_total", "0x20 1x100", **of)
    yield (
        "hung-restarted",
        case("EngineHung", restarted, {20: 0, 21: 1, 80: 1, 81: 0}, reason="restarted", engine="p-1"),
    )
    spent = one("rackserve_probe_restart_limit_reached", drop, **of)
    yield "hung-limit", case("EngineHung", spent, looks, reason="limit", engine="p-1")


def balancers() -> Iterator[tuple[str, Case]]:
    there, away = up("haproxy", "1x40", node="lb2"), up("haproxy", "1x4 0x5 1x10", node="lb1")
    looks = {6: 0, 7: 1, 10: 1, 11: 0}
    yield "balancer", case("BalancerGone", {**away, **there}, looks, severity="ticket", node="lb1")
    yield "balancer-other-serves", case("BalancerGone", {**away, **there}, {10: 0}, severity="page")
    yield "balancer-no-target", case("BalancerGone", there, {1: 0, 2: 1}, severity="ticket")
    both = {**away, **up("haproxy", "0x40", node="lb2")}
    yield "balancers", case("BalancerGone", both, looks, severity="page")
    yield "balancers-no-target", case("BalancerGone", {}, {1: 0, 2: 1}, severity="page")
    yield from disagreements()
    yield from lines()
    yield from certificates()


def disagreements() -> Iterator[tuple[str, Case]]:
    name, running = "BalancersDisagree", {**up("haproxy", "1x60", node="lb1"), **up("haproxy", "1x60", node="lb2")}
    two_minds = {**status("UP", "engines", lb1_1="1x40", lb2_1="1x4 0x15 1x20"), **running}
    yield "minds", case(name, two_minds, {14: 0, 15: 1, 20: 1, 21: 0}, reason="engines", server="p-1")
    tracks = {**status("UP", STABLE, lb1_1="1x40", lb2_1="0x40"), **running}
    yield "minds-track", case(name, tracks, {9: 0, 10: 1}, reason="engines")
    known = {**status("UP", "engines", lb1_1="1x40", lb2_1="_x5 1x15 stale"), **running}
    yield "files", case(name, known, {20: 0, 30: 0, 31: 1}, reason="configuration")
    one_down = {
        **status("UP", "engines", lb1_1="1x40"),
        **up("haproxy", "1x60", node="lb1"),
        **up("haproxy", "0x60", node="lb2"),
    }
    yield "files-one-down", case(name, one_down, {30: 0}, reason="configuration")
    version = {
        **one("haproxy_process_build_info", "1x60", job="haproxy", node="lb1", version="3.0.11"),
        **one("haproxy_process_build_info", "_x2 1x30 stale", job="haproxy", node="lb2", version="3.0.12"),
    }
    yield "versions", case(name, version, {125: 0, 130: 1, 160: 1, 165: 0}, 5, reason="version")


def lines() -> Iterator[tuple[str, Case]]:
    def log(lost: str, unwritten: str = "0x60") -> Series:
        of = {"job": "traffic", "node": "lb1"}
        return {
            **one("rackserve_log_lines_total", "0+1000x60", **of, state="read"),
            **one("rackserve_log_lines_lost_total", lost, **of),
            **one("rackserve_log_lines_unwritten_total", unwritten, **of),
        }

    looks = {20: 0, 21: 1, 35: 1, 36: 0}
    yield "lost-20-of-15000", case("LogService", log("0x20 20x40"), looks, reason="lost", node="lb1")
    yield "lost-14-of-15000", case("LogService", log("0x20 14x40"), {21: 0, 30: 0}, reason="lost")
    yield "log-service-restarts", case("LogService", log("50x20 0x30", "50x20 0x30"), {21: 0, 25: 0, 40: 0})
    yield "unwritten", case("LogService", log("0x60", "0x20 1x40"), looks, reason="unwritten")


def certificates() -> Iterator[tuple[str, Case]]:
    """Minute n is n minutes after 1970, so 3 days before the end are left ten minutes after the beginning."""

    def ends(at: str) -> Series:
        of = {"job": "traffic", "node": "lb1"}
        name = "rackserve_certificate_not_after_timestamp_seconds"
        return {**one("up", "1x120", **of), **(one(name, at, **of) if at else {})}

    name = "CertificateRunningOut"
    soon, renew = 3 * 86_400 + 600, 21 * 86_400 + 600
    renewed = {15: 0, 16: 1, 19: 1, 20: 0}
    yield (
        "certificate-3-days",
        case(name, ends(f"{soon}x19 9e9x30"), renewed, severity="page", node="lb1", reason="soon"),
    )
    looks = {70: 0, 71: 1, 89: 1, 90: 0}
    yield "certificate-21-days", case(name, ends(f"{renew}x89 9e9x30"), looks, severity="ticket", reason="renew")
    # Figures are kept for five minutes.
    yield "certificate-unread", case(name, ends(""), {29: 0, 30: 1}, severity="ticket", node="lb1", reason="unread")
    yield "certificate-read-again", case(name, ends("_x40 9e9x30"), {39: 1, 40: 0}, reason="unread")
    away = {**one("up", "0x60", job="traffic", node="lb1")}
    yield "certificate-of-a-balancer-that-is-away", case(name, away, {60: 0}, reason="unread")


def nodes() -> Iterator[tuple[str, Case]]:
    looks = {9: 0, 10: 1, 15: 1, 16: 0}
    # Of the definition's first host, whose rule is changed; the others are silent because they are there.
    rest = {name: text for node in ("lb2", "g1", "g2", "m1") for name, text in up("node", "1x60", node=node).items()}
    yield "node", case("NodeGone", {**up("node", "1x4 0x10 1x10", node="lb1"), **rest}, looks, node="lb1")
    yield "node-no-target", case("NodeGone", rest, {4: 0, 5: 1})
    yield from disks()
    low = {
        **one("node_memory_MemTotal_bytes", "1000x60", job="node", node="g1"),
        **one("node_memory_MemAvailable_bytes", "100x9 49x20 51x30", job="node", node="g1"),
    }
    yield "memory", case("HostMemory", low, {19: 0, 20: 1, 30: 1, 31: 0}, reason="low", node="g1")
    # 257 pages a second from minute 10 to 40: over all of five minutes from 14 on.
    swaps = one("node_vmstat_pswpin", "0x9 15420+15420x30 478020x20", job="node", node="g1")
    yield "swap", case("HostMemory", swaps, {23: 0, 24: 1, 40: 1, 41: 0}, reason="swap")
    yield (
        "swap-255",
        case("HostMemory", one("node_vmstat_pswpin", "0+15300x60", job="node", node="g1"), {40: 0}, reason="swap"),
    )
    killed = one("node_vmstat_oom_kill", "0x20 1x40", job="node", node="g1")
    yield "killed", case("HostMemory", killed, {20: 0, 21: 1, 35: 1, 36: 0}, reason="killed")
    clock = one("node_time_seconds", "0+60x9 602+60x20 1860+60x10", job="node", node="g1")
    yield "clock", case("ClockOff", clock, {14: 0, 15: 1, 30: 1, 31: 0})
    yield (
        "clock-behind",
        case("ClockOff", one("node_time_seconds", "-2+60x40", job="node", node="g1"), {30: 1}),
    )
    yield (
        "clock-0.9",
        case("ClockOff", one("node_time_seconds", "0.9+60x40", job="node", node="g1"), {30: 0}),
    )


def disks() -> Iterator[tuple[str, Case]]:
    def disk(free: str, size: int = 1000, fixed: int = 0, kind: str = "ext4") -> Series:
        of = {"job": "node", "node": "g1", "mountpoint": "/", "fstype": kind}
        return {
            **one("node_filesystem_avail_bytes", free, **of),
            **one("node_filesystem_size_bytes", f"{size}x300", **of),
            **one("node_filesystem_readonly", f"{fixed}x300", **of),
        }

    name, floor, trend = "DiskRunningOut", {"reason": "floor"}, {"reason": "trend"}
    low = {**disk("100x9 49x20 51x10"), **disk("0x40", kind="tmpfs")}
    yield "disk", case(name, low, {14: 0, 15: 1, 30: 1, 31: 0}, severity="page", **floor)
    yield "disk-read-only", case(name, disk("10x40", fixed=1), {30: 0}, **floor)
    # One every five minutes is 288 a day: less than nothing is left at the third step, and an hour later it fires.
    yield "trend", case(name, disk("290-1x40 900x20"), {70: 0, 75: 1, 200: 1, 205: 0}, 5, severity="ticket", **trend)
    yield "trend-much-left", case(name, disk("400-2x40"), {100: 0}, 5, **trend)
    yield "trend-read-only", case(name, disk("290-1x40", fixed=1), {100: 0}, 5, **trend)
    steps = 72
    flat, falling = [250.0] * 150, [250.0 - 1.5 * n for n in range(1, 100)]
    fires = empty_in_a_day(flat + falling, steps) + 12
    series = disk("250x149 248.5-1.5x98")
    yield "trend-after-calm", case(name, series, {5 * (fires - 1): 0, 5 * fires: 1}, 5, **trend)


def empty_in_a_day(left: list[float], steps: int) -> int:
    """The first sample at which the line through it and the `steps` before it is below zero 288 samples later."""
    for at in range(steps, len(left)):
        line = linear_regression(range(-steps, 1), left[at - steps : at + 1])
        if line.intercept + line.slope * 288 < 0:
            return at
    raise AssertionError("it never is")


def monitors() -> Iterator[tuple[str, Case]]:
    name, looks = "PrometheusTrouble", {9: 0, 10: 1, 15: 1, 16: 0}
    drop, prometheus, alertmanager = (
        "1x4 0x10 1x10",
        {"job": "prometheus", "node": "m1"},
        {"job": "alertmanager", "node": "m1"},
    )
    yield "down-monitor", case(name, up("alertmanager", drop, node="m1"), looks, reason="down", node="m1")
    # The last figures count for five minutes.
    stored = up("prometheus", "1x10 _x20 1x10", node="m1")
    yield "blind", case(name, stored, {20: 0, 21: 1, 30: 1, 31: 0}, severity="page", reason="blind")
    for metric, of in (
        ("prometheus_config_last_reload_successful", prometheus),
        ("alertmanager_config_last_reload_successful", alertmanager),
        ("prometheus_notifications_alertmanagers_discovered", prometheus),
    ):
        reason = "configuration" if "config" in metric else "alertmanagers"
        yield metric, case(name, one(metric, drop, **of), looks, reason=reason, node="m1")
    for reason, metric, of in (
        ("rules", "prometheus_rule_evaluation_failures_total", prometheus),
        ("unwritten", "prometheus_tsdb_wal_writes_failed_total", prometheus),
        ("missed", "prometheus_rule_group_iterations_missed_total", prometheus),
        ("notifications", "prometheus_notifications_dropped_total", prometheus),
        ("receivers", "alertmanager_notifications_failed_total", alertmanager),
    ):
        counted = one(metric, "0x20 1x40", **of)
        yield metric, case(name, counted, {20: 0, 21: 1, 35: 1, 36: 0}, reason=reason, node="m1")
    compacted = one("prometheus_tsdb_compactions_failed_total", "0x20 1x100", **prometheus)
    yield "compaction", case(name, compacted, {100: 0, 105: 1, 460: 1, 465: 0}, 5, reason="compaction")
    # Nine of eleven samples at 6 s and two at 1 s are 5.1 s.
    slow = one("scrape_duration_seconds", "1x9 6x20 1x20", job="vllm", instance="a")
    yield "slow", case(name, slow, {22: 0, 23: 1, 32: 1, 33: 0}, reason="slow")
    yield (
        "slow-4.9",
        case(name, one("scrape_duration_seconds", "4.9x40", job="vllm", instance="a"), {30: 0}, reason="slow"),
    )
    yield "watchdog", case("Watchdog", {}, {0: 1, 5: 1}, severity="none")


CASES: dict[str, Case] = {
    name: one_case
    for area in (pools, rejections, engines, probes, balancers, nodes, monitors)
    for name, one_case in area()
}
