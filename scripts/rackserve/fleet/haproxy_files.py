"""Renders templates/haproxy into a candidate: haproxy.cfg, its maps, its Lua programs and its certificate.

The one place that does so: the Ansible role (through its action plugin), scripts/render and the gateway tests call it,
so all of them see the same configuration. Pure but for reading the templates.
"""

import datetime
import hashlib
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from rackserve.fleet.tracks import SHARES_MAP as SHARES_MAP
from rackserve.fleet.tracks import TRACKS as TRACKS

TEMPLATES = Path(__file__).resolve().parents[3] / "templates" / "haproxy"
# The first of two stick counters that count requests by lane; those before it are for limits and addresses.
LANE_COUNTER = 9
# Stands for the digest while the digest is computed, because one of the files names it.
_DIGEST_TOKEN = "@configuration-digest@"
_MARKER = re.compile(r"^# --- part: (?P<part>\S+)$")
_SECRET_MAPS = {"engine_keys"}
# Written by scripts while HAProxy runs; templates only know how they begin.
MAINTENANCE_MAP = "maps/maintenance.map"
# What each line of a file has to be that others go on writing. A file that is anything else begins anew.
KEPT = {
    MAINTENANCE_MAP: r"[a-z0-9][a-z0-9-]* \d{1,12}",
    # Of the tracks, while a release is tried: canary/baseline in thousandths.
    SHARES_MAP: r"[a-z0-9][a-z0-9-]* \d{1,4}/\d{1,4}",
}


class RenderError(Exception):
    """The templates could not be rendered with these variables; the message says where and why."""


@dataclass(frozen=True)
class CandidateFile:
    """One file below the configuration directory. `secret`: its content must never be shown.

    `kept`: a regular expression for its lines. The text here is only how it begins; what stands there stays.
    """

    path: str
    text: str
    secret: bool = False
    kept: str | None = None


@dataclass(frozen=True)
class Candidate:
    digest: str
    files: tuple[CandidateFile, ...]

    def text(self, path: str) -> str:
        return next(file.text for file in self.files if file.path == path)


@dataclass(frozen=True)
class Origin:
    """Where a line of haproxy.cfg comes from. `template_line` is None when several lines could have made it."""

    part: str
    template_line: int | None
    text: str

    def __str__(self) -> str:
        where = f"templates/haproxy/{self.part}"
        return f"{where}:{self.template_line}: {self.text}" if self.template_line else f"{where}: {self.text}"


def render(variables: Mapping[str, Any], node: str, templates: Path = TEMPLATES) -> Candidate:
    """Renders every file of the balancer `node` from the `haproxy_*` variables.

    Raises RenderError for a missing or unusable variable, naming it and the template line that asked for it.
    """
    _check(variables)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["day_begins"] = _day_begins
    programs = {
        str(path.relative_to(templates)): str(path.relative_to(templates)).removesuffix(".j2")
        for pattern in ("*.lua", "*.lua.j2", "shared/*.lua", "shared/*.lua.j2")
        for path in sorted((templates / "lua").glob(pattern))
    }
    context = {
        **{name: _plain(value) for name, value in variables.items() if name.startswith("haproxy_")},
        "haproxy_node": node,
        "haproxy_tracks": list(TRACKS),
        "haproxy_digest": _DIGEST_TOKEN,
        "haproxy_lane_counter": LANE_COUNTER,
        # Programs in lua/shared have one state for all threads, the others one per thread.
        "haproxy_lua": sorted(name for name in programs.values() if not name.startswith("lua/shared/")),
        "haproxy_lua_shared": sorted(name for name in programs.values() if name.startswith("lua/shared/")),
    }
    files = [CandidateFile("haproxy.cfg", _one(environment, "haproxy.cfg.j2", context))]
    for template in sorted((templates / "maps").glob("*.map.j2")):
        name = template.name.removesuffix(".map.j2")
        text = "".join(f"{line}\n" for line in _one(environment, f"maps/{template.name}", context).splitlines() if line)
        path = f"maps/{name}.map"
        files.append(CandidateFile(path, text, secret=name in _SECRET_MAPS, kept=KEPT.get(path)))
    for source, name in programs.items():
        text = _one(environment, source, context) if source.endswith(".j2") else (templates / source).read_text()
        files.append(CandidateFile(name, text))
    if variables["haproxy_tls_pem"]:
        files.append(CandidateFile("certs/api.pem", f"{str(variables['haproxy_tls_pem']).strip()}\n", secret=True))
    digest = hashlib.sha256(repr([(file.path, file.text) for file in files]).encode()).hexdigest()[:12]
    return Candidate(
        digest,
        tuple(replace(file, text=file.text.replace(_DIGEST_TOKEN, digest)) for file in files),
    )


def _day_begins(day: str) -> int:
    """A day such as 2026-12-31 as HAProxy compares times: seconds since 1970, UTC."""
    return int(datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp())


def _plain(value: Any) -> Any:
    """Ansible's own containers print under their own names in messages."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _one(environment: jinja2.Environment, name: str, context: Mapping[str, Any]) -> str:
    try:
        return environment.get_template(name).render(context)
    except jinja2.TemplateSyntaxError as error:
        raise RenderError(f"templates/haproxy/{error.name}:{error.lineno}: {error.message}") from error
    except (jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError) as error:
        # The innermost frame whose file is a template is the line that asked for what is not there.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".j2")]
        where = f"templates/haproxy/{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name
        raise RenderError(
            f"{where}: {error}. A variable of the role haproxy or a key of its plan is missing or has the wrong type."
        ) from error


def _check(variables: Mapping[str, Any]) -> None:
    """Rules that a template cannot express: a broken one would make a configuration that HAProxy accepts."""
    problems = []
    plan = variables.get("haproxy_plan")
    if not isinstance(plan, Mapping) or not plan:
        raise RenderError("haproxy_plan is empty. Set it to the resolved service definition: {{ service_plan }}.")
    key = str(variables.get("haproxy_engine_key") or "")
    if not re.fullmatch(r"[!-~]{8,512}", key):
        problems.append("haproxy_engine_key needs 8 to 512 printable characters without spaces; set it from the vault")
    for name, pool in plan.get("pools", {}).items():
        where = f"haproxy_plan.pools.{name}"
        if int(pool["slots_per_balancer"]) < 1:
            problems.append(f"{where}.slots_per_balancer is {pool['slots_per_balancer']}; at least 1")
        if pool["balance"]["kind"] not in ("least_loaded", "prefix_hash"):
            problems.append(f"{where}.balance.kind is {pool['balance']['kind']!r}; least_loaded or prefix_hash")
    longest = max((int(pool["timeouts"]["generation_seconds"]) for pool in plan.get("pools", {}).values()), default=0)
    if int(variables.get("haproxy_hard_stop_after_seconds", 0)) <= longest:
        problems.append(
            f"haproxy_hard_stop_after_seconds is {variables.get('haproxy_hard_stop_after_seconds')}; "
            f"more than the longest generation ({longest} s), or a reload cuts it"
        )
    if problems:
        raise RenderError("; ".join(problems) + ".")


def part_of(configuration: str, line: int) -> tuple[str, str]:
    """The part that line number `line` (from 1) of a rendered haproxy.cfg belongs to, and the line's text."""
    lines = configuration.splitlines()
    if not 1 <= line <= len(lines):
        return "haproxy.cfg.j2", ""
    for text in reversed(lines[:line]):
        if match := _MARKER.match(text):
            return match["part"], lines[line - 1].strip()
    return "haproxy.cfg.j2", lines[line - 1].strip()


def origin_of(configuration: str, line: int, templates: Path = TEMPLATES) -> Origin:
    """Traces a line of the rendered configuration to its template part and, where that is unique, to the line there."""
    part, text = part_of(configuration, line)
    try:
        source = (templates / part).read_text().splitlines()
    except OSError:
        return Origin(part, None, text)
    exact = [number for number, candidate in enumerate(source, 1) if candidate.strip() == text]
    # Else a template line whose literal pieces appear in this order; pure expressions would match everything.
    similar = exact or [number for number, candidate in enumerate(source, 1) if _could_make(candidate, text)]
    return Origin(part, similar[0] if len(similar) == 1 else None, text)


def _could_make(template_line: str, text: str) -> bool:
    pieces = re.split(r"{{.*?}}|{%.*?%}", template_line.strip())
    if sum(len(piece.strip()) for piece in pieces) < 4:
        return False
    return re.fullmatch(".*".join(re.escape(piece) for piece in pieces), text) is not None
