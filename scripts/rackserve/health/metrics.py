"""What Prometheus reads of the probe."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from rackserve.health.decide import deadline_is_short, limit_seconds, stalled_seconds
from rackserve.health.looks import Decision, Rules, State
from rackserve.health.settings import Engine, Settings

_LABELS = ("engine", "pool")


class Metrics:
    """One registry with every engine from the start."""

    def __init__(self, settings: Settings, program: str) -> None:
        self.registry = CollectorRegistry()
        self._up = self._gauge("up", "1: takes requests as far as the probe knows; 0: down; -1: nothing is said of it")
        self._state = self._gauge("state", "1 for the state that the engine is in", *_LABELS, "state")
        self._stalled = self._gauge("stalled_seconds", "Since something last moved in the engine")
        self._limit = self._gauge("limit_seconds", "How long nothing may move in it while it has work")
        self._step = self._gauge("longest_step_seconds", "The longest step seen at warm-up")
        self._token = self._gauge("token_seconds", "One token at warm-up, with nothing else to do")
        self._short = self._gauge("deadline_short", "1: token_deadline_seconds is too short for this engine")
        self._blind = self._gauge("blind", "1: nothing can be told about the engine's progress")
        self._spent = self._gauge("restart_limit_reached", "1: hung, and not restarted any more")
        self._looks = self._counter("looks", "Looks at the engine")
        self._restarts = self._counter("restarts", "Restarts of the engine that were asked for")
        names = ("node", "program", "settings")
        info = Gauge("rackserve_probe_info", "What runs: program and settings", names, registry=self.registry)
        info.labels(settings.node, program, settings.version).set(1)
        for engine in settings.engines:
            self._up.labels(engine.name, engine.pool).set(-1)
            self._looks.labels(engine.name, engine.pool)
            self._restarts.labels(engine.name, engine.pool)

    def saw(self, engine: Engine, decision: Decision, rules: Rules, at: float) -> None:
        """One look and what came of it."""
        labels, memory = (engine.name, engine.pool), decision.memory
        self._looks.labels(*labels).inc()
        self._up.labels(*labels).set({True: 1, False: 0, None: -1}[decision.word])
        for state in State:
            self._state.labels(*labels, state.value).set(state is memory.state)
        self._stalled.labels(*labels).set(stalled_seconds(memory, at))
        self._limit.labels(*labels).set(limit_seconds(memory, rules))
        if memory.warm is not None:
            self._token.labels(*labels).set(memory.warm.token_seconds)
            if memory.warm.step_seconds is not None:
                self._step.labels(*labels).set(memory.warm.step_seconds)
        self._short.labels(*labels).set(deadline_is_short(memory, rules))
        blind = memory.figures is not None and not memory.figures.counts_tokens
        self._blind.labels(*labels).set(blind or bool(memory.mute))
        self._spent.labels(*labels).set(decision.restart_limit)
        if decision.restart:
            self._restarts.labels(*labels).inc()

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"rackserve_probe_{name}", text, labels or _LABELS, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"rackserve_probe_{name}", text, _LABELS, registry=self.registry)
