"""What is asked. Bodies in OpenAI's form; greedy and short, so that a run takes seconds."""

from typing import Any

CHAT = "/v1/chat/completions"
MAX_TOKENS = 32
# One of them comes in nearly every answer, whatever the model says.
STOPS = (" ", "e", "a", ".")
TOOL, TOOL_ARGUMENT = "get_temperature", "city"
# A longer prompt shows nothing more: it is already read in several pieces.
_LONGEST_PROMPT_TOKENS = 16_000
_CONTEXT_SHARE = 0.6
_SENTENCE = (
    "Entry {number}: the night train was on time, carried {number} passengers and used its second engine twice. "
)
_QUESTION = "The following log was kept by a station master. Say in one sentence what it is about.\n"


def chat(model: str, content: str = "") -> dict[str, Any]:
    """Its text is of the same kind as the long prompt's, so that its tokens tell how many that will have."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": content or _QUESTION + log(6)}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }


def stream(model: str) -> dict[str, Any]:
    return chat(model) | {"stream": True, "stream_options": {"include_usage": True}}


def stopping(model: str) -> dict[str, Any]:
    return chat(model) | {"stop": list(STOPS)}


def tools(model: str) -> dict[str, Any]:
    """The call is demanded, because a small model may choose not to make one."""
    parameters = {
        "type": "object",
        "properties": {TOOL_ARGUMENT: {"type": "string", "description": "Name of the city"}},
        "required": [TOOL_ARGUMENT],
    }
    function = {"name": TOOL, "description": "The temperature in a city, in degrees", "parameters": parameters}
    asked = chat(model, "How warm is it in Oslo?")
    return asked | {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "max_tokens": 4 * MAX_TOKENS,
    }


def log(entries: int) -> str:
    return "".join(_SENTENCE.format(number=number) for number in range(1, entries + 1))


def long(model: str, context_tokens: int, tokens_per_character: float, most_bytes: int) -> tuple[dict[str, Any], int]:
    """A prompt that fills a good part of the context, and how many tokens it has at least. Both limits are kept."""
    wanted = min(_LONGEST_PROMPT_TOKENS, int(_CONTEXT_SHARE * context_tokens))
    characters = min(int(wanted / tokens_per_character), most_bytes - 2_000)
    entries = max(1, characters // len(_SENTENCE))
    content = _QUESTION + log(entries)[:characters]
    # Half, because repeated words may take fewer tokens than the first ones.
    return chat(model, content), int(len(content) * tokens_per_character / 2)


def characters(asked: dict[str, Any]) -> int:
    return sum(len(message["content"]) for message in asked["messages"])
