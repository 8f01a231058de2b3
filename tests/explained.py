"""A connection, planned for as the handler's are, that explains each statement that it runs."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import TupleRow

from shared.database import PINNED_PLANS


class Plan(NamedTuple):
    """How a statement was run."""

    nodes: list[dict[str, Any]]
    milliseconds: float

    @property
    def indexes(self) -> set[str]:
        """The indexes that it went by; of history, whichever partition's."""
        return {node["Index Name"] for node in self.nodes if "Index Name" in node}

    def rows(self, *tables: str) -> int:
        """How many rows of these tables it looked at."""
        return self.visited(*tables, unless="")

    def visited(self, *tables: str, unless: str = "Index Only Scan") -> int:
        """How many rows it looked at in the tables themselves, not in an index alone."""
        return sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in self.nodes
            if node.get("Relation Name", "").startswith(tables) and node["Node Type"] != unless
        )


class Explained(AsyncConnection[TupleRow]):
    """Keeps the plan of each statement since `plans` was last emptied."""

    plans: list[Plan]

    @classmethod
    async def to(cls, url: str) -> "Explained":
        """Connect."""
        options = " ".join(f"-c {name}={value}" for name, value in PINNED_PLANS.items())
        connection = await cls.connect(url, autocommit=True, options=f"{options} -c jit=off")
        connection.plans = []
        return connection

    async def execute(self, query: Any, *args: Any, **more: Any) -> AsyncCursor[TupleRow]:
        explained = await super().execute(
            b"explain (analyze, timing off, format json) " + query, *args, prepare=False
        )
        [[plan]] = await explained.fetchall()
        document = json.loads(plan) if isinstance(plan, str) else plan
        [root] = document
        self.plans.append(Plan(list(_nodes(root["Plan"])), root["Execution Time"]))
        return await super().execute(query, *args, **more)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)
