"""Smoke trials on the forced route, through a real balancer: the canary alone is asked, and each fault has its sentence."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rackserve.canary.smoke.run import Route, Smoke, smoke

from gateway.asking import CONTEXT
from gateway.balancer import Balancer, candidate, eventually
from gateway.plan import FIRST_PORT, KEYS, default_pools, plan, pool
from gateway.stub import Seen, Stub

ENGINES = {"tried-1": "stable", "tried-2": "baseline", "tried-3": "canary"}


def tried(address: str) -> dict[str, Any]:
    """A plan whose pool `tried` has an engine for each track."""
    pools = default_pools() | {"tried": pool(["tried"], list(ENGINES), canary={})}
    return plan(address, FIRST_PORT, pools)


@pytest.fixture(scope="module")
def tried_engines(stub_address: str) -> Iterator[Stub]:
    every = tried(stub_address)["engines"]
    stub = Stub(stub_address, {one["name"]: one["port"] for one in every if one["pool"] == "tried"})
    stub.open()
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def service(running: Balancer, engines: Stub, tried_engines: Stub, stub_address: str) -> Iterator[Balancer]:
    running.reload(candidate(tried(stub_address)))
    eventually(running.all_up, "every engine in service")
    running.runtime(
        "; ".join(
            f"set server pool-tried-{track}/{engine} state {'ready' if place == track else 'maint'}"
            for engine, place in ENGINES.items()
            for track in ("stable", "baseline", "canary")
        )
    )
    yield running
    running.reload(candidate(plan(stub_address, FIRST_PORT)))


@pytest.fixture
def canary(service: Balancer, tried_engines: Stub) -> Stub:
    tried_engines.reset()
    eventually(lambda: service.state("tried-3") == "UP", "the canary in service")
    tried_engines.engines["tried-3"].script = answers()
    return tried_engines


def answers(
    text: str = "It is a log of trains.", finish: str = "stop", model: str = "", sees: int = 1_000_000, **message: Any
) -> Callable[[Seen], list[Any]]:
    """An engine that answers all trials as it should, but for what is changed. `sees`: tokens of a prompt at most."""

    def script(seen: Seen) -> list[Any]:
        content = seen.body["messages"][0]["content"]
        found: dict[str, Any] = {"model": model or seen.body["model"]}
        found["usage"] = {"prompt_tokens": min(len(content) // 4, sees), "completion_tokens": 8, "total_tokens": 9}
        if seen.body.get("stream"):
            deltas: list[tuple[dict[str, str], str | None]] = [({"content": f"{word} "}, None) for word in text.split()]
            return [
                *({**found, "choices": [{"delta": delta, "finish_reason": end}]} for delta, end in [*deltas, ({}, finish)]),
                "[DONE]",
            ]  # fmt: skip
        if seen.body.get("tools"):
            function = {"name": "get_temperature", "arguments": json.dumps({"city": "Oslo"})}
            said = {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}], **message}
            return [{**found, "choices": [{"message": said, "finish_reason": "tool_calls"}]}]
        ended = text.split(" ", maxsplit=1)[0] if seen.body.get("stop") else text
        return [{**found, "choices": [{"message": {"content": ended, **message}, "finish_reason": finish}]}]

    return script


def run(balancer: Balancer, key: str = "probe", url: str = "", **route: Any) -> Smoke:
    known: dict[str, Any] = {"model": "tried", "seconds": 3.0, "certificates": CONTEXT, "tools": True}
    return smoke(Route(url or balancer.url, KEYS[key], **(known | route)))


def test_a_sound_canary_passes_every_trial_and_is_the_only_one_asked(service: Balancer, canary: Stub) -> None:
    found = run(service)
    assert (found.outcome, [one.name for one in found.trials]) == (
        "pass", ["chat", "stream", "long prompt", "stop text", "tools"]
    ), found.reason  # fmt: skip
    assert found.reason.startswith("All 5 trials passed on the canary track: chat ")
    assert {seen.engine for seen in canary.seen()} == {"tried-3"}
    longest = max(len(seen.body["messages"][0]["content"]) for seen in canary.seen())
    assert longest > 5_000, "a part of the context, in a prompt whose tokens have four characters"
    assert len(run(service, tools=False).trials) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"text": " "}, "3 of 5 trials failed on the canary track: chat: the answer is empty; stream: the stream of "),
        ({"finish": "abort"}, "chat: the answer ended by 'abort', not by one of stop, length; stream: the stream ended by"),
        ({"model": "another"}, "5 of 5 trials failed on the canary track: chat: the answer comes from model 'another', not"),
        ({"sees": 200}, "1 of 5 trials failed on the canary track: long prompt: the engine saw 200 tokens of a prompt that"),
        ({"tool_calls": []}, "1 of 5 trials failed on the canary track: tools: no tool was called"),
        ({"text": "I" * 40}, "1 of 5 trials failed on the canary track: stream: 8 tokens came in one piece, so they were not"),
    ],
    ids=["empty", "abort", "model", "cut prompt", "no tool", "not streamed"],
)  # fmt: skip
def test_each_fault_has_its_sentence(service: Balancer, canary: Stub, fault: dict[str, Any], said: str) -> None:
    canary.engines["tried-3"].script = answers(**fault)
    found = run(service)
    assert (found.outcome, said in found.reason) == ("fail", True), found.reason


def test_an_engine_that_ignores_the_stop_text_fails(service: Balancer, canary: Stub) -> None:
    sound = answers()
    canary.engines["tried-3"].script = lambda seen: sound(Seen(**{**vars(seen), "body": seen.body | {"stop": None}}))
    found = run(service)
    assert (
        "1 of 5 trials failed on the canary track: stop text: the answer goes on past the stop text ' '" in found.reason
    )


def test_a_canary_that_hangs_fails_within_the_time_of_its_trials(service: Balancer, canary: Stub) -> None:
    canary.engines["tried-3"].script = lambda seen: []
    found = run(service, seconds=0.3)
    assert (found.outcome, "chat: nothing came for 0.3 s; stream: nothing came for 0.3 s" in found.reason) == (
        "fail",
        True,
    )


def test_a_canary_without_an_engine_fails(service: Balancer, canary: Stub) -> None:
    canary.refuse("tried-3")
    eventually(lambda: service.state("tried-3") == "DOWN", "the canary is seen to be gone")
    found = run(service)
    assert found.outcome == "fail"
    assert "5 of 5 trials failed on the canary track: chat: status 503: " in found.reason


def test_who_may_not_choose_the_track_is_told_so_and_nothing_is_held_against_the_canary(
    service: Balancer, canary: Stub
) -> None:
    found = run(service, key="demo")
    assert found.outcome == "source_unreachable"
    assert "the answer came without a track, not from canary: the key has to be the rack's own" in found.reason
    assert len(found.trials) == 1
    unknown = run(service, model="nobody")
    assert (unknown.outcome, "status 404: " in unknown.reason) == ("source_unreachable", True), unknown.reason
    gone = run(service, url="http://127.0.0.1:9")
    assert gone.outcome == "source_unreachable"
    assert (
        "The canary track could not be tried at http://127.0.0.1:9: the balancer takes no connection: " in gone.reason
    )
