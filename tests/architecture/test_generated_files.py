"""Files that are made from the code are the ones that the code makes."""

from pathlib import Path

from shared.runs import lifecycle, moves
from shared.settings import env_example

ROOT = Path(__file__).parent.parent.parent


def test_the_example_environment_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(), "run `make docs`"


# Statements that move nothing: an executor looks before it moves.
READS = {"lapsed", "held", "orphans", "heads"}


def test_every_arrow_has_a_statement_and_every_statement_an_arrow() -> None:
    files = {path.stem for path in (ROOT / "shared/runs/sql").glob("*.sql")}
    assert files == {move.name for move in lifecycle.LIFE} | READS
    for move in lifecycle.LIFE:
        head = moves.SQL[move.name].decode().splitlines()[0]
        assert head.startswith(f"-- {move}"), head


def test_no_file_holds_a_registry_address_or_an_unfinished_word() -> None:
    hosts = ("pythonhosted", "pypi.org", "npmjs")
    words = ("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")
    kept = [".venv", ".git", ".data", ".mypy_cache", ".ruff_cache", ".pytest_cache"]
    for path in ROOT.rglob("*"):
        if path.suffix not in {".py", ".sql", ".txt", ".toml", ".yml", ".md", ""}:
            continue
        if not path.is_file() or set(kept) & set(path.relative_to(ROOT).parts):
            continue
        text = path.read_text(errors="ignore")
        if path != Path(__file__):
            assert not [host for host in hosts if f"//{host}" in text or f".{host}" in text], path
        assert not [word for word in words if word in text], path
