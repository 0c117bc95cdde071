"""Downloads one revision of a model from a hub and compares every file with what the hub says about it.

stdin: {"repository", "revision", "endpoint", "token", "include", "files", "into"}.
Ends with one sentence on stderr when it fails.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import filter_repo_objects


def git_hash(path):
    """What git calls a file: the hub knows small files by it, and big ones by SHA-256."""
    found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(4 * 1024 * 1024):
            found.update(chunk)
    return found.hexdigest()


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong(folder, entry):
    path = folder / entry.rfilename
    if not path.is_file():
        return "missing"
    if entry.size is not None and path.stat().st_size != entry.size:
        return f"{path.stat().st_size} bytes instead of {entry.size}"
    if entry.lfs is not None:
        return "" if sha256(path) == entry.lfs.sha256 else "other content than the hub announces"
    return "" if not entry.blob_id or git_hash(path) == entry.blob_id else "other content than the hub announces"


def download(wanted):
    api = HfApi(endpoint=wanted["endpoint"], token=wanted["token"] or False)
    info = api.model_info(wanted["repository"], revision=wanted["revision"], files_metadata=True)
    if info.sha != wanted["revision"]:
        sys.exit(
            f"revision {wanted['revision']} of {wanted['repository']} is a name that moves; today it means {info.sha}. "
            "Write that commit into the model's revision"
        )
    patterns = wanted["files"] or wanted["include"]
    entries = list(filter_repo_objects(info.siblings, allow_patterns=patterns, key=lambda entry: entry.rfilename))
    if not entries:
        sys.exit(f"{wanted['repository']} at {wanted['revision']} has no file that matches {patterns}")
    folder = Path(wanted["into"])
    snapshot_download(
        wanted["repository"],
        revision=wanted["revision"],
        local_dir=folder,
        allow_patterns=patterns,
        endpoint=wanted["endpoint"],
        token=wanted["token"] or False,
        force_download=bool(wanted["files"]),
        max_workers=4,
    )
    if (folder / ".cache").exists():
        shutil.rmtree(folder / ".cache")
    problems = [f"{entry.rfilename}: {reason}" for entry in entries if (reason := wrong(folder, entry))]
    if problems:
        for problem in problems:
            (folder / problem.split(":")[0]).unlink(missing_ok=True)
        sys.exit(
            f"{wanted['repository']} came damaged from {wanted['endpoint'] or 'the hub'}: "
            f"{'; '.join(problems)}. Run again"
        )


def main():
    wanted = json.load(sys.stdin)
    subject = f"{wanted['repository']} at {wanted['revision']} from {wanted['endpoint'] or 'the public hub'}"
    try:
        download(wanted)
    except RevisionNotFoundError:
        sys.exit(f"{subject}: no such revision. Write the full commit of the model into its revision")
    except RepositoryNotFoundError:
        sys.exit(
            f"{subject}: no such model, or the token may not read it. Check repository and token_variable of its source"
        )
    except HfHubHTTPError as error:
        sys.exit(f"{subject}: {str(error).splitlines()[0]}. Check endpoint and token_variable of its source")
    except Exception as error:
        # Whatever else the client raises (its HTTP library is its own business) ends in one sentence too.
        said = (str(error).splitlines() or [""])[0]
        sys.exit(f"{subject}: {type(error).__name__}: {said}. Check the endpoint and the node's way out")


if __name__ == "__main__":
    main()
