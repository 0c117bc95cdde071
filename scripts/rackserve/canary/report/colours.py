"""One colour for each role, on light and on dark ground; the palette of Okabe and Ito, which colour-blind people can tell apart."""

from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "ground": "#ffffff", "text": "#1b1f24", "quiet": "#5b6470", "grid": "#e3e6ea", "axis": "#9aa2ad", "limit": "#b42318",
    "canary": "#d55e00", "baseline": "#0072b2", "stable": "#7a828c", "phase": "#f2f4f7",
    "series-0": "#d55e00", "series-1": "#0072b2", "series-2": "#009e73", "series-3": "#a1518a", "series-4": "#8a6d00",
    "good": "#116329", "bad": "#b42318", "doubt": "#8a5a00",
}  # fmt: skip
DARK: Mapping[str, str] = {
    "ground": "#15181c", "text": "#e6e9ed", "quiet": "#a2abb6", "grid": "#2b3037", "axis": "#6b7480", "limit": "#ff8a80",
    "canary": "#ff9148", "baseline": "#56b4e9", "stable": "#a6aeb8", "phase": "#1d2127",
    "series-0": "#ff9148", "series-1": "#56b4e9", "series-2": "#35c79a", "series-3": "#dd93c4", "series-4": "#e6c34a",
    "good": "#6fd08c", "bad": "#ff8a80", "doubt": "#f0c36d",
}  # fmt: skip
SERIES = 5
