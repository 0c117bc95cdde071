"""Alerts on engines: out, hung, out of memory for tokens, failing, restarting, or not what the others of the pool are."""

import math

from rackserve.alerts.form import BREAKERS, ENGINES, Alert, alert, any_of, in_pool, number, servers, status
from rackserve.definition.models.pool import Pool
from rackserve.definition.plan import resolved_timeouts
from rackserve.definition.read import Definition

_ENGINE = "{{ $labels.server }}"
# From there on vLLM's own dashboard warns. Preemptions beside it: full by itself is only well used.
_CACHE_FULL = 0.9
# The shortest window that is certain to hold several scrapes (every 15 s) on both of its halves.
_HUNG_AT_LEAST_SECONDS = 120
# An open breaker lets a trial through every open_seconds (15 by default), so one that opens again at once is open most of the
# time; one that opened once is open for a fortieth of ten minutes.
_OPEN_SHARE = 0.3


def alerts(definition: Definition) -> list[Alert]:
    found = []
    for name, pool in definition.service.pools.items():
        silence = resolved_timeouts(definition.service.timeouts, pool).silence_seconds
        found += [_out(name, pool), _not_scraped(name, pool), _without_tokens(name, silence), _breaker_open(name, pool)]
    return [*found, _cache_pressure(), _restarts(), *_drift()]


def _out(name: str, pool: Pool) -> Alert:
    return alert(
        "EngineOut",
        "ticket",
        # The least of all balancers: every one that answers sees it down.
        f"min by (server) ({status('DOWN', ENGINES, any_of(pool))}) == 1",
        f"{_ENGINE}: out at every balancer",
        f"For 5 minutes the engine {_ENGINE} of the pool {name} has failed its checks at every balancer.",
        # A restart takes from one minute to several, most of it loading weights.
        waits="5m",
        pool=name,
        engine=_ENGINE,
    )


def _not_scraped(name: str, pool: Pool) -> Alert:
    serving = f"max by (server) ({status('UP', ENGINES, any_of(pool))}) == 1"
    return alert(
        "EngineNotScraped",
        "ticket",
        f'label_replace({serving}, "engine", "$1", "server", "(.+)")\n'
        f'unless on (engine) up{{job="vllm",pool="{name}"}} == 1',
        "{{ $labels.engine }}: serves, and its figures are not read",
        f"For 10 minutes the engine {{{{ $labels.engine }}}} of the pool {name} has passed its checks, and Prometheus has not "
        "read its figures: no alert on its cache or on hanging would fire.",
        waits="10m",
        pool=name,
    )


def _without_tokens(name: str, silence_seconds: float) -> Alert:
    """The balancers say what runs: an engine that hangs says nothing new of itself, and keeps its last figures."""
    window = f"{max(_HUNG_AT_LEAST_SECONDS, math.ceil(silence_seconds))}s"
    running = f"(sum by (server) ({servers('haproxy_server_current_sessions', in_pool(name))}))[{window}:15s]"
    tokens = " + ".join(
        f'increase(vllm:{kind}_tokens_total{{job="vllm",pool="{name}"}}[{window}])' for kind in ("generation", "prompt")
    )
    return alert(
        "RunningWithoutTokens",
        "page",
        f'label_replace(min_over_time({running}) > 0, "engine", "$1", "server", "(.+)")\n'
        f"and on (engine) sum by (engine) ({tokens}) == 0",
        "{{ $labels.engine }}: has requests and makes no tokens",
        f"Over {window} the engine {{{{ $labels.engine }}}} of the pool {name} had requests all the time, at least "
        "{{ $value }}, and made not one token. Its health check still passes, so it gets more.",
        waits="1m",
        pool=name,
    )


def _breaker_open(name: str, pool: Pool) -> Alert:
    share = f"avg_over_time({status('MAINT', BREAKERS, any_of(pool))}[10m])"
    # Whoever takes an engine out does so at `engines`, and it shows at `breakers` too.
    taken_out = f"max_over_time({status('MAINT', ENGINES, any_of(pool))}[10m])"
    return alert(
        "BreakerOpen",
        "ticket",
        f"{share} > {number(_OPEN_SHARE)}\nunless on (node, server) {taken_out} == 1",
        f"{_ENGINE}: taken out for its errors at {{{{ $labels.node }}}}",
        f"Of the last 10 minutes the engine {_ENGINE} of the pool {name} was out for {{{{ $value | humanizePercentage }}}} at "
        "{{ $labels.node }}, because it answered with errors, although it passes its checks.",
        pool=name,
        engine=_ENGINE,
    )


def _cache_pressure() -> Alert:
    return alert(
        "KvCachePressure",
        "ticket",
        f'avg_over_time(vllm:kv_cache_usage_perc{{job="vllm"}}[10m]) > {number(_CACHE_FULL)}\n'
        'and on (instance, exported_engine) increase(vllm:num_preemptions_total{job="vllm"}[10m]) > 0',
        "{{ $labels.engine }}: {{ $value | humanizePercentage }} of its KV cache taken, and requests lose their place in it",
        "Over 10 minutes {{ $value | humanizePercentage }} of the KV cache of {{ $labels.engine }} (pool {{ $labels.pool }}) was "
        "taken, and running requests were put back and computed anew: more slots than memory for their tokens.",
        waits="5m",
    )


def _restarts() -> Alert:
    return alert(
        "EngineRestarts",
        "ticket",
        # One is a new release; two within an hour are none.
        'changes(process_start_time_seconds{job="vllm"}[1h]) > 1',
        "{{ $labels.engine }}: started {{ $value }} times within an hour",
        "The engine {{ $labels.engine }} of the pool {{ $labels.pool }} has started {{ $value }} times within an hour.",
    )


def _drift() -> list[Alert]:
    """What targets are labelled with comes from the definition; the rest is what engines say of themselves."""
    cache = "pool, cache_dtype, block_size, enable_prefix_caching"
    return [
        _different("release", "up", "pool, release", "releases"),
        _different("model", "vllm:num_requests_running", "pool, model_name", "models"),
        _different("settings", "vllm:cache_config_info", cache, "settings of the KV cache"),
    ]


def _different(what: str, metric: str, by: str, plural: str) -> Alert:
    return alert(
        "ReleaseDrift",
        "ticket",
        f'count by (pool) (count by ({by}) ({metric}{{job="vllm",track="stable"}})) > 1',
        f"{{{{ $labels.pool }}}}: its engines run {{{{ $value }}}} different {plural}",
        f"For 2 hours engines of the pool {{{{ $labels.pool }}}}, canaries left out, have had {{{{ $value }}}} different {plural}.",
        # A pool of a full rack is updated engine by engine within this.
        waits="2h",
        reason=what,
    )
