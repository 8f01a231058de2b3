"""The version before: the newest commit that was written for an earlier schema.

Its processes run by the same Python and packages as ours.
"""

import re
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from handler_service.health import SCHEMA_REVISION
from tests.processes import ROOT

SAYS_REVISION = "handler_service/health.py"


def check_out(directory: Path) -> str:
    """Put its code into a directory, and answer the schema it was written for.

    Skips the test where the history is not there: a shallow clone, or no clone at all.
    """
    commit, revision = _find()
    archive = BytesIO(_git("archive", "--format=tar", commit))
    with tarfile.open(fileobj=archive) as files:
        files.extractall(directory, filter="data")
    return revision


def _find() -> tuple[str, str]:
    """The commit and its schema: HEAD itself while the change of the schema is not committed."""
    if _git("rev-parse", "--is-shallow-repository") == b"true\n":
        pytest.skip("the clone is shallow: the version before is not in it")
    changes = _git("rev-list", "HEAD", "--", SAYS_REVISION).decode().split()
    for commit in ("HEAD", *(f"{change}^" for change in changes)):
        revision = _revision(commit)
        if revision < SCHEMA_REVISION:
            return commit, revision
    raise AssertionError(f"no commit says an earlier schema than {SCHEMA_REVISION}")


def _revision(commit: str) -> str:
    found = re.search(rb'SCHEMA_REVISION = "(\w+)"', _git("show", f"{commit}:{SAYS_REVISION}"))
    assert found is not None, commit
    return found[1].decode()


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout
    except FileNotFoundError:
        pytest.skip("git is not here, and with it the version before")
    except subprocess.CalledProcessError as refusal:
        pytest.skip(f"the history is not here: {refusal.stderr.decode().strip()}")
