"""`python -m tests.deploy`: writes what is made from the chart, as `make docs` does."""

from tests.deploy.render import CHART, PLAIN, PLAIN_FILES, Renderer, plain, value_set
from tests.deploy.values_table import readme

with Renderer.started() as renderer:
    for file, name in PLAIN_FILES.items():
        (PLAIN / file).write_text(plain(renderer.render(value_set(name)), name))
(CHART / "README.md").write_text(readme())
