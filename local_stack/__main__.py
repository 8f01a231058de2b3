"""`make up`: reads the environment, then lets a supervisor run the stack."""

import os
import signal
import sys

from pydantic import ValidationError

from local_stack.guard import end_with
from local_stack.problems import StackError
from local_stack.settings import StackSettings, explain
from local_stack.stack import Stack
from local_stack.supervisor import Supervisor
from local_stack.terminal import Terminal


def main() -> int:
    """Run until asked to stop; 0 then, 1 if the stack can't come up, 2 for a wrong variable."""
    try:
        settings = StackSettings()
    except ValidationError as refusal:
        print(explain(refusal, StackSettings), file=sys.stderr)
        return 2
    if settings.makelevel:
        # A `make` that is killed takes nobody along, yet it is the one that people know of.
        end_with(os.getppid(), signal.SIGTERM)
    terminal = Terminal(sys.stdout, colours=sys.stdout.isatty() and not settings.no_color)
    # The services inherit what else is set.
    stack = Stack(settings, dict(os.environ))  # noqa: TID251  # this is where it is read
    try:
        Supervisor(stack, terminal).run()
    except StackError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
