"""How a new release is tried: steps, evidence, tolerances, gates, hooks."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rackserve.definition.models.base import AbsolutePath, Count, HeaderName, Percent, Seconds, Strict, Url, refuse

_MAX_STEP_PERCENT = 50


def _rising(steps: tuple[float, ...]) -> tuple[float, ...]:
    if any(later <= earlier for earlier, later in pairwise(steps)) or steps[-1] > _MAX_STEP_PERCENT:
        raise refuse(
            "steps do not rise, or go over half",
            f"rising percentages up to {_MAX_STEP_PERCENT}, such as [1, 5, 10, 25]",
        )
    return steps


class Tolerances(Strict):
    """How much worse than the baseline a canary may be before it is rolled back."""

    errors_percent: Percent = Field(default=0.5, description="Hard errors, in points above the baseline")
    cut_streams_percent: Percent = Field(
        default=0.5, description="Streams that ended early, in points above the baseline"
    )
    empty_answers_percent: Percent = Field(
        default=0.5, description="Answers without text, in points above the baseline"
    )
    slow_ttft_percent: Percent = Field(
        default=5, description="First tokens above the SLO's edge, in points above the baseline"
    )
    slow_inter_token_percent: Percent = Field(
        default=5, description="Token gaps above the SLO's edge, in points above the baseline"
    )


class Quality(Strict):
    """Reference prompts that canary and baseline answer before users see the canary."""

    prompts: AbsolutePath | None = Field(
        default=None, description="File of reference prompts on the operator's machine; default: the shipped set"
    )
    same_model_agreement_percent: Percent = Field(
        default=99, description="Greedy answers that must agree when the model is unchanged"
    )
    new_model_agreement_percent: Percent | None = Field(
        default=None, description="Greedy answers that must agree when the model changes; default: not judged"
    )
    log_probability_tolerance: Annotated[float, Field(gt=0, le=10)] = Field(
        default=0.05, description="Difference in mean log-probability of the reference texts"
    )


class Hook(Strict):
    """A command or a web address that is told of an event. Exactly one of the two."""

    event: Literal["started", "step", "held", "approved", "rolled_back", "promoted", "halted"] = Field(
        description="The event"
    )
    command: AbsolutePath | None = Field(
        default=None, description="Program on the operator's machine; gets the event as JSON on standard input"
    )
    webhook: Url | None = Field(default=None, description="Address that gets the event as JSON by POST")

    @model_validator(mode="after")
    def _one_receiver(self) -> "Hook":
        if (self.command is None) == (self.webhook is None):
            raise refuse("a hook has exactly one receiver", "either command or webhook")
        return self


class Canary(Strict):
    """The plan of a canary run."""

    steps_percent: Annotated[tuple[Percent, ...], Field(min_length=1), AfterValidator(_rising)] = Field(
        default=(1, 5, 10, 25), description="Share of traffic of each step"
    )
    load_parity: bool = Field(
        default=True, description="After the steps give the canary the load of its baseline engine before promoting"
    )
    settle_seconds: Seconds = Field(default=30, description="Wait after each step before counting")
    observe_seconds: Seconds = Field(default=300, description="Shortest observation of a step")
    observe_limit_seconds: Seconds = Field(
        default=3600, description="Longest observation; without enough evidence the run holds"
    )
    minimum_requests: Count = Field(default=200, description="Fewest canary requests of a step before it may pass")
    false_rollback_percent: Percent = Field(
        default=1, description="Accepted share of good releases that are rolled back by chance"
    )
    tolerances: Tolerances = Field(default=Tolerances(), description="How much worse than the baseline is still good")
    measured_only: tuple[Literal["errors", "cut_streams", "empty_answers", "slow_ttft", "slow_inter_token"], ...] = (
        Field(default=(), description="Metrics that are shown but do not decide")
    )
    gates: tuple[Percent, ...] = Field(default=(), description="Steps that need an approval, such as [10]")
    stickiness: Literal["none", "tenant", "session_header"] = Field(
        default="none", description="What keeps its track for the whole run"
    )
    session_header: HeaderName | None = Field(
        default=None, description="With stickiness session_header: the header's name"
    )
    quality: Quality = Field(default=Quality(), description="Reference prompts before users see the canary")
    watchdog_seconds: Seconds = Field(
        default=60, description="The share goes to 0 when the controller is silent for longer"
    )
    hooks: tuple[Hook, ...] = Field(default=(), description="Who is told of what happens")

    @model_validator(mode="after")
    def _parts_fit(self) -> "Canary":
        if (self.stickiness == "session_header") != (self.session_header is not None):
            raise refuse("stickiness session_header and session_header belong together", "both or none of them")
        if strange := [gate for gate in self.gates if gate not in self.steps_percent]:
            raise refuse(
                f"gates name {strange[0]:g}, which is no step",
                f"steps of steps_percent: {', '.join(f'{step:g}' for step in self.steps_percent)}",
            )
        if self.observe_limit_seconds < self.observe_seconds:
            raise refuse("observe_limit_seconds is below observe_seconds", "a limit of at least observe_seconds")
        return self
