"""Whether there is a Docker engine to deploy on."""

import subprocess

import pytest


def refuse_without_engine(*questions: tuple[str, ...]) -> None:
    """Skip where docker, its engine, or what else is asked of it is missing, and say which."""
    for question in (("version",), *questions):
        try:
            answer = subprocess.run(
                ["docker", *question], capture_output=True, text=True, timeout=60, check=False
            )
        except OSError as error:
            pytest.skip(f"there is no docker command: {error}")
        if answer.returncode:
            pytest.skip(f"docker {' '.join(question)} says: {answer.stderr.strip()}")
