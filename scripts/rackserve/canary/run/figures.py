"""From running sums to the judge's window. Pure."""

from dataclasses import replace

from rackserve.canary.judge.counts import METRICS, Cell, Metric, Slice, Tally, Window
from rackserve.canary.run.plan import Plan
from rackserve.canary.run.record import Moment, Phase, Record, State
from rackserve.canary.run.world import Seen, Share, Source, Totals, Track

# Without a control nothing is compared, and a split cannot drift: the canary's part is all but one.
_ALONE = 1 - 1e-6


def between(before: Totals, after: Totals, control: Track) -> Slice:
    """What happened between two looks. A sum that fell, a process that began anew, one more or one less: void, and it says why."""
    if strange := sorted(before.keys() ^ after.keys()):
        return Slice({}, 0, 0, void=f"the counters of {strange[0]} came or went")
    cells: dict[Metric, list[Cell]] = {metric: [] for metric in METRICS}
    requests: dict[Track, int] = {"canary": 0, control: 0}
    for name, now in after.items():
        was = before[name]
        if was.epoch != now.epoch or _fell(was, now):
            return Slice({}, 0, 0, void=f"the counters of {name} began anew")
        for track in requests:
            requests[track] += now.requests.get(track, 0) - was.requests.get(track, 0)
        for metric in METRICS:
            for stratum in _strata(now, metric):
                tallies = [_tally(was, now, metric, track, stratum) for track in ("canary", control)]
                cells[metric].append(Cell(tallies[0], tallies[1], stratum))
    return Slice(cells, requests["canary"], requests[control])


def _strata(source: Source, metric: Metric) -> list[str]:
    return sorted({stratum for strata in source.cells.get(metric, {}).values() for stratum in strata})


def _sums(source: Source, metric: Metric, track: Track, stratum: str) -> tuple[int, int]:
    return source.cells.get(metric, {}).get(track, {}).get(stratum, (0, 0))


def _tally(was: Source, now: Source, metric: Metric, track: Track, stratum: str) -> Tally:
    before, after = _sums(was, metric, track, stratum), _sums(now, metric, track, stratum)
    bad, of = after[0] - before[0], after[1] - before[1]
    # Two counters are not read in the same instant: a request may be bad already and not counted yet.
    return Tally(bad, max(bad, of))


def _fell(was: Source, now: Source) -> bool:
    if any(now.requests.get(track, 0) < number for track, number in was.requests.items()):
        return True
    return any(
        _sums(now, metric, track, stratum)[place] < sums[place]
        for metric, tracks in was.cells.items()
        for track, strata in tracks.items()
        for stratum, sums in strata.items()
        for place in (0, 1)
    )


def _control(plan: Plan, record: Record) -> Track:
    """While it is promoted the baseline's engine is the first to change; stable has equal load from then on."""
    return "stable" if record.where is State.PROMOTING else plan.control


def equal_loads(plan: Plan, record: Record) -> bool:
    """Engines of both tracks have as much to do, so times may be compared."""
    if record.where is State.PROMOTING or plan.baseline is not None:
        return True
    return 0 <= record.level < len(plan.levels) and plan.levels[record.level].parity


def fair(record: Record) -> bool:
    """Times decide: loads are equal, and no shift is under way."""
    moving = record.phase is Phase.SETTLE or (record.where is State.PROMOTING and record.phase is Phase.ACT)
    return record.equal and not moving


def fresh(plan: Plan, record: Record, share: Share, now: Moment) -> Record:
    """A window of its own for a new share: what came before was assigned otherwise. Whom it is compared with stays for as long."""
    control = _control(plan, record)
    theirs = share.baseline if control == "baseline" else 1000 - share.canary - share.baseline
    part = share.canary / (share.canary + theirs) if share.canary else 0.5
    window = Window(canary_share=min(part, _ALONE))
    news = {"window": window, "mark": None, "marked": now, "control": control, "equal": equal_loads(plan, record)}
    return record.model_copy(update=news)


def counted(plan: Plan, record: Record, seen: Seen, now: Moment, dead: str) -> tuple[Record, Window]:
    """The record with a slice more where one is full, and the window to judge, the slice that is not full yet included."""
    window = replace(record.window, dead=dead, unreachable="" if seen.totals is not None else seen.no_figures or "?")
    if seen.totals is None:
        return record, window
    if record.mark is None:
        return record.model_copy(update={"mark": seen.totals, "marked": now}), window
    one = between(record.mark, seen.totals, record.control)
    if one.void:
        # Whatever was seen before, minimum evidence has to come from a stretch that nothing disturbed.
        begun = Window(canary_share=record.window.canary_share, void={one.void: 1}, slices=1)
        news = {"window": begun, "mark": seen.totals, "marked": now, "began": now}
        return record.model_copy(update=news), replace(begun, dead=dead)
    if now.boot == record.marked.boot and now.after(record.marked) < plan.slice_seconds:
        return record, window.plus(one)
    news = {"window": record.window.plus(one), "mark": seen.totals, "marked": now}
    return record.model_copy(update=news), window.plus(one)
