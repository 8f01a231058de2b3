"""The package builds, installs where nothing of this checkout is on the path, and runs."""

import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from onthedot import __version__
from tests.client.commands import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
OFFLINE = ["--no-deps", "--no-index"]
# Where a setuptools is that will do, nothing is fetched; else pip fetches one that can.
SETUPTOOLS = [each.version for each in metadata.distributions(name="setuptools")]
HAS_BUILDER = bool(SETUPTOOLS) and int(SETUPTOOLS[0].partition(".")[0]) >= 77
BUILD = [*OFFLINE, "--no-build-isolation"] if HAS_BUILDER else ["--no-deps"]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(each) for each in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of `pip install ./client`, as the README says it; built from a copy."""
    assert "pip install './client[cli]'" in (ROOT / "client/README.md").read_text()
    directory = tmp_path_factory.mktemp("package")
    shutil.copytree(
        ROOT / "client", directory / "client", ignore=shutil.ignore_patterns("__pycache__")
    )
    run(*PIP, "wheel", *BUILD, "-w", directory, "./client", cwd=directory)
    [built] = directory.glob("onthedot-*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    modules = {
        str(path.relative_to(ROOT / "client")) for path in (ROOT / "client/onthedot").rglob("*.py")
    }
    assert modules <= set(names)
    assert "onthedot/py.typed" in names
    assert [name for name in names if name.endswith("LICENSE")]
    assert not [name for name in names if not name.startswith("onthedot")]


def test_it_installs_and_runs_by_its_name(wheel: Path, tmp_path: Path) -> None:
    """Beside it is only what the wheel asks for: the libraries of this environment."""
    home = tmp_path / "home"
    venv.create(home, symlinks=True, with_pip=False)
    [site] = home.glob("lib/python*/site-packages")
    run(*PIP, "--python", home, "install", *OFFLINE, wheel, cwd=tmp_path)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "libraries.pth").write_text(libraries + "\n")
    program = home / "bin/onthedot"
    assert run(program, "--version", cwd=tmp_path) == f"onthedot {__version__}\n"
    where = run(
        home / "bin/python", "-c", "import onthedot; print(onthedot.__file__)", cwd=tmp_path
    )
    assert where.startswith(str(site))


def test_without_the_command_line_s_libraries_it_says_what_to_install(
    wheel: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    run(*PIP, "install", *OFFLINE, "--target", library, wheel, cwd=tmp_path)
    without_typer = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['onthedot', '--version']; "
        "from onthedot.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_typer],
        cwd=library,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The command line needs typer: pip install './client[cli]'\n"
