"""Asks the installed vLLM's own parser whether it would take these flags.

Runs inside the environment, as the engine's user.
stdin: {"subject": [["flag", value, ["--flag", "word"]], ...], ...}
stdout, last line: {"subject": ["problem", ...], ...}
Loads no model and touches no device.
"""

import argparse
import difflib
import json
import sys

from vllm.entrypoints.cli.serve import cmd_init
from vllm.utils.argparse_utils import FlexibleArgumentParser


def refuse(message):
    raise ValueError(message)


def serve_parser():
    root = FlexibleArgumentParser(prog="vllm")
    command = cmd_init()[0]
    parser = command.subparser_init(root.add_subparsers(required=False, dest="subparser"))
    # argparse would print usage and exit; every problem shall be named, not only the first.
    parser.error = refuse
    return parser, command


def describe(action):
    if action.choices:
        return "one of " + ", ".join(str(choice) for choice in action.choices)
    kind = getattr(action.type, "__name__", None)
    names = {
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "human_readable_int": "a whole number, or one like 4k",
    }
    names["human_readable_int_or_auto"] = "a whole number, one like 4k, or auto"
    return names.get(kind, "JSON or text that vLLM can read")


def problem_of(parser, name, value, words):
    options = parser._option_string_actions
    if f"--{name}" not in options:
        near = difflib.get_close_matches(f"--{name}", [known for known in options if known.startswith("--")], 1, 0.5)
        hint = f"; did you mean {near[0][2:]}?" if near else ""
        return f"flag {name}: this version of vLLM has no such flag{hint}"
    action = options[f"--{name}"]
    switch = action.nargs == 0
    if switch and not isinstance(value, bool):
        return f"flag {name}: {value!r} is not allowed, it is a switch; allowed: true or false, without quotes"
    if isinstance(value, bool) and not switch:
        return f"flag {name}: {str(value).lower()} is not allowed, it takes a value; allowed: {describe(action)}"
    if value is None:
        return f"flag {name}: has no value; allowed: {describe(action)}; or leave the flag out"
    if value is False and f"--no-{name}" not in options:
        return f"flag {name}: this switch cannot be turned off by false; leave the flag out"
    try:
        parser.parse_args(["model", *words])
    except (ValueError, argparse.ArgumentError, argparse.ArgumentTypeError, TypeError) as error:
        reason = "" if action.choices else f" ({str(error).splitlines()[0]})"
        return f"flag {name}: {value!r} is not allowed; allowed: {describe(action)}{reason}"
    return None


def problems_of(parser, command, flags):
    found = [problem for problem in (problem_of(parser, *flag) for flag in flags) if problem]
    if found:
        return found
    try:
        command.validate(parser.parse_args(["model", *[word for flag in flags for word in flag[2]]]))
    except (ValueError, argparse.ArgumentError, TypeError) as error:
        return [f"the flags do not fit together: {error}"]
    return []


def main():
    wanted = json.load(sys.stdin)
    parser, command = serve_parser()
    print(json.dumps({subject: problems_of(parser, command, flags) for subject, flags in wanted.items()}))


if __name__ == "__main__":
    main()
