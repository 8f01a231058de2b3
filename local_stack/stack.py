"""What a local stack consists of, in the order in which it comes up."""

from collections.abc import Callable, Mapping, Sequence

from local_stack import ports
from local_stack.child import Child
from local_stack.data_directory import DataDirectory
from local_stack.postgres import Postgres
from local_stack.problems import PortTakenError
from local_stack.program import Program
from local_stack.services import Service, Task, python_module
from local_stack.settings import StackSettings
from local_stack.valkey import Valkey

# Where the servers listen: this far above PORT, that is on 15432 and 16379. So a person finds them
# where they were, and stacks beside each other don't meet. Where that is taken, any port does.
POSTGRES_ABOVE_PORT = 7_352
REDIS_ABOVE_PORT = 8_299

# On a laptop, the receivers are on the laptop.
OPEN_NETWORKS = "127.0.0.0/8,::1/128"


class Stack:
    """The processes of one `make up`. What is None has not been started, or not by us."""

    def __init__(self, settings: StackSettings, environment: Mapping[str, str]) -> None:
        self.settings = settings
        self.directory = DataDirectory(settings.data_dir)
        self.postgres: Postgres | None = None
        self.redis: Valkey | None = None
        self.migrations: Task | None = None
        self.handler: Service | None = None
        self.executors: list[Service] = []
        self.database_url = ""
        self.redis_url = ""
        self._environment = {name: value for name, value in environment.items() if value}

    def start(self, begin: Callable[[Child], None]) -> None:
        """Start all, each once those are ready that it needs. Raises a StackError.

        `begin` starts one and waits until it is ready. The data directory must have been claimed.
        """
        self._check_port()
        self._start_postgres(begin)
        self._start_redis(begin)
        self.migrations = Task("migrations", self._module("migrations"))
        begin(self.migrations)
        self._start_handler(begin)
        self._start_executors(begin)

    @property
    def in_stop_order(self) -> Sequence[Sequence[Child]]:
        """Who stops together: nobody before those who need them."""
        singles = (self.handler, self.migrations, self.redis, self.postgres)
        return [self.executors, *([child] for child in singles if child is not None)]

    def _check_port(self) -> None:
        port = self.settings.port
        remedy = f"make up PORT={ports.choose(8090)}"
        try:
            if not ports.is_free(port):
                raise PortTakenError(port, remedy)
        except PermissionError:
            raise PortTakenError(port, remedy, "is for root alone") from None

    def _start_postgres(self, begin: Callable[[Child], None]) -> None:
        if self.settings.database_url is not None:
            self.database_url = self.settings.database_url.get_secret_value()
            return
        port = self.settings.port
        self.postgres = Postgres(
            self.directory.path / "postgres",
            port=ports.choose(port + POSTGRES_ABOVE_PORT, but_not={port}),
            log=self.directory.logs / "postgres.log",
        )
        begin(self.postgres)
        self.database_url = self.postgres.url

    def _start_redis(self, begin: Callable[[Child], None]) -> None:
        if self.settings.redis_url is not None:
            self.redis_url = self.settings.redis_url.get_secret_value()
            return
        port = self.settings.port
        self.redis = Valkey(
            self.directory.path / "redis",
            port=ports.choose(port + REDIS_ABOVE_PORT, but_not={port}),
            log=self.directory.logs / "redis.log",
        )
        begin(self.redis)
        self.redis_url = self.redis.url

    def _start_handler(self, begin: Callable[[Child], None]) -> None:
        port = self.settings.port
        # Nothing stands before it, and a person waits for the stack to stop.
        program = self._module(
            "handler_service", HOST=ports.LOOPBACK, PORT=str(port), DRAIN_SECONDS="0"
        )
        self.handler = Service("handler", program, port=port)
        begin(self.handler)

    def _start_executors(self, begin: Callable[[Child], None]) -> None:
        taken = {self.settings.port}
        for number in range(1, self.settings.executors + 1):
            port = ports.choose(self.settings.port + number, but_not=taken)
            taken.add(port)
            program = self._module(
                "executor_service",
                name=f"executor-{number}",
                HEALTH_HOST=ports.LOOPBACK,
                HEALTH_PORT=str(port),
            )
            self.executors.append(Service(f"executor-{number}", program, port=port))
        for executor in self.executors:
            executor.launch()
        for executor in self.executors:
            begin(executor)

    def _module(self, module: str, *, name: str | None = None, **variables: str) -> Program:
        environment = {
            "ALLOWED_PRIVATE_NETWORKS": OPEN_NETWORKS,
            "LOG_FORMAT": "pretty",
            **self._environment,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            **variables,
        }
        log = self.directory.logs / f"{name or module.removesuffix('_service')}.log"
        return python_module(module, environment, log=log, lock=self.directory.services_lock)
