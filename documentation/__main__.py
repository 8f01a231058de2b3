"""Writes every page that is made from the code."""

from documentation.pages import DOCS, pages


def main() -> None:
    """Write them, where they stand in the site."""
    for name, text in pages().items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
