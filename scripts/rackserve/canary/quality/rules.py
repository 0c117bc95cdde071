"""How alike two engines have to be, for each kind of change."""

from dataclasses import dataclass
from typing import Literal

from rackserve.definition.models.canary import Quality

Change = Literal["same_model", "new_model"]

# Engines keep logits in 16 bits: two tokens whose logits are about 20 can only be told apart in steps of 0.125, and another
# batch or a cached prefix moves each by a step. With the default tolerance of 0.05 a parting counts as chance up to four steps.
_TIE = 10
# Rounding moves single log-probabilities to both sides, which the mean does not show; other weights do so much more.
_SCATTER = 2


@dataclass(frozen=True)
class Rules:
    """`agreement_percent`: greedy answers that must agree; None: not judged. `tolerance`: per token, natural logarithm."""

    change: Change
    agreement_percent: float | None
    tolerance: float

    @property
    def tie(self) -> float:
        """The two engines' preferences for their own token, added up, below which a parting is chance."""
        return _TIE * self.tolerance

    @property
    def scatter(self) -> float:
        """Mean absolute difference of single log-probabilities that is still the same model."""
        return _SCATTER * self.tolerance


def rules_of(quality: Quality, *, same_model: bool) -> Rules:
    return Rules(
        "same_model" if same_model else "new_model",
        quality.same_model_agreement_percent if same_model else quality.new_model_agreement_percent,
        quality.log_probability_tolerance,
    )
