"""What stands in a path: ids, in their one spelling."""

from typing import Annotated

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

ID_MAX = 2**63 - 1


class IdConvertor(Convertor[int]):
    """An id in a path, in its one spelling; any other path is not found."""

    regex = r"[1-9][0-9]{0,18}(?!\n)"  # the router's $ would let a line break pass

    def convert(self, value: str) -> int:
        """Read it."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Write it."""
        return str(value)


register_url_convertor("id", IdConvertor())
_bounds = {"minimum": 1, "maximum": ID_MAX}
TimerId = Annotated[
    int, Path(description="The timer's id.", examples=[1], json_schema_extra=_bounds)
]
JobId = Annotated[int, Path(description="The job's id.", examples=[17], json_schema_extra=_bounds)]
ApplicationId = Annotated[
    int, Path(description="The application's id.", examples=[1], json_schema_extra=_bounds)
]
