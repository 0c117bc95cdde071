"""Classes of replies, and the edges that no SLO reads. The others come with the settings: rules and page share them. Pure."""

from collections.abc import Mapping

# Tokens of a prompt or a reply.
TOKENS: tuple[float, ...] = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


def reply_class(classes: Mapping[str, tuple[int, int | None]], tokens: int) -> str:
    """The label of the class that a reply of so many tokens is in; the classes cover every length once."""
    return next(
        label for label, (fewest, most) in classes.items() if tokens >= fewest and (most is None or tokens <= most)
    )
