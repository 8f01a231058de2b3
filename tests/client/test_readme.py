"""Every example of the client's README runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onthedot.cli.exits import MEANINGS
from tests.client.commands import ROOT, Commands
from tests.client.conftest import Server

README = (ROOT / "client/README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
# The one that installs is run by test_packaging.
SHELL = [text for kind, text in BLOCKS if kind == "sh" and "pip install" not in text]
[FILE] = [text for kind, text in BLOCKS if kind == "yaml"]
HERE = "http://localhost:8080"


def environment(commands: Commands, bin_directory: Path) -> dict[str, str]:
    bin_directory.mkdir()
    program = bin_directory / "onthedot"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onthedot "$@"\n')
    program.chmod(0o755)
    return {
        **commands.variables,
        "ONTHEDOT_URL": "",
        "PATH": f"{bin_directory}:{os.defpath}",
        "PYTHONPATH": str(ROOT / "client"),
    }


def test_there_are_examples() -> None:
    assert (len(PYTHON), len(SHELL)) == (5, 2)
    assert {kind for kind, _ in BLOCKS} == {"python", "sh", "yaml"}


@pytest.mark.parametrize("text", PYTHON)
def test_a_python_example_runs(text: str, server: Server) -> None:
    assert HERE in text
    exec(compile(text.replace(HERE, server.url), "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102


def test_the_shell_examples_run_one_after_the_other(
    server: Server, commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "jobs.yaml").write_text(FILE)
    script = "".join(SHELL).replace(HERE, server.url)
    done = subprocess.run(
        ["/bin/bash", "-euxc", script],
        env=environment(commands, tmp_path / "bin"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "0 to create, 0 to change, 0 to end, 2 as they should be." in done.stderr


def test_the_exit_codes_are_those_there_are() -> None:
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    assert "\n".join(rows) in README
