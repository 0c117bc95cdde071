"""The largest value of the last minute, by labels: what percentiles of buckets cannot show. Pure; time is given."""

SLICE_SECONDS = 10
SLICES = 6


class Maxima:
    """`now` in seconds, of a clock that never goes back. One writer; readers may be other threads."""

    def __init__(self) -> None:
        self._slices: dict[tuple[str, ...], dict[int, float]] = {}

    def saw(self, labels: tuple[str, ...], value: float, now: float) -> None:
        number = int(now // SLICE_SECONDS)
        slices = self._slices.get(labels)
        if slices is None:
            slices = self._slices[labels] = {}
        if value > slices.get(number, -1.0):
            slices[number] = value
            if len(slices) > SLICES + 1:
                self._slices[labels] = {key: old for key, old in slices.items() if key > number - SLICES}

    def last_minute(self, now: float) -> dict[tuple[str, ...], float]:
        """Without those that had nothing. The minute is exact to SLICE_SECONDS."""
        oldest = int(now // SLICE_SECONDS) - SLICES + 1
        found = {}
        for labels, slices in list(self._slices.items()):
            recent = [value for number, value in list(slices.items()) if number >= oldest]
            if recent:
                found[labels] = max(recent)
        return found
