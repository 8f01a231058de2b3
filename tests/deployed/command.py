"""Commands of an engine or a cluster, as a person would type them."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def answer_of(
    *command: str,
    given: str | None = None,
    seconds: float = 60,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command, and answer what it printed; a failure tells what it complained of."""
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd,
        env=env,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout
