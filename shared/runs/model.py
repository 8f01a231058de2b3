"""The tables. `migrations/` makes them; a test holds the two together.

No foreign keys on the hot tables: both rows of a timer are written by one statement
(`sql/create.sql`), and the trigger of a foreign key would cost each of them a look-up and a lock
on its parent.
"""

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from shared.runs.lifecycle import (
    DEAD_LETTERS,
    OUTSTANDING,
    Delivery,
    ExecutionState,
    JobState,
)

Instant = DateTime(timezone=True)
NOW = text("now()")
# The host of a URL, as it stands there, in lower case as far as it is ASCII.
HOST = r"""lower(substring(url from '^[^:]+://(\[[^]]*\]|[^/?#:]*)') collate "C")"""
metadata = MetaData()


def _one_of(column: str, states: Iterable[str]) -> str:
    return f"{column} in ({', '.join(repr(str(state)) for state in states)})"


# A tenant: whose secret signs, later whose keys and limits. One default row from the first
# migration.
applications = Table(
    "applications",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("signing_secret", LargeBinary, nullable=False),
    # The one before it, which signs too until then: receivers learn the new one meanwhile.
    Column("previous_signing_secret", LargeBinary),
    Column("previous_secret_until", Instant),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    UniqueConstraint("name", name="applications_name"),
    # Standard Webhooks 1.0.0: a symmetric secret is 24 to 64 bytes of entropy.
    CheckConstraint(
        "octet_length(signing_secret) between 24 and 64", name="applications_signing_secret_size"
    ),
    CheckConstraint(
        "(previous_signing_secret is null) = (previous_secret_until is null)",
        name="applications_previous_secret_ends",
    ),
)

# The definition: what to call and when. A timer is a job that runs once.
jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("application_id", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("headers", JSONB),  # {"name": "value"}; null: none
    Column("payload", LargeBinary),  # the body as it is sent; null: the event that says it fired
    Column("timeout_seconds", Double, nullable=False),
    Column("retry", JSONB),  # as `RetryPolicy` writes it; null: the default policy
    Column("delivery", Text, nullable=False, server_default=Delivery.AT_LEAST_ONCE.value),
    # The nominal instant of its next run; when there is none any more, of its last.
    Column("run_at", Instant, nullable=False),
    Column("state", Text, nullable=False, server_default=JobState.ACTIVE.value),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    Column("updated_at", Instant, nullable=False, server_default=NOW),
    Column("user_id", Text),  # whose it is, in the caller's words
    Column("key", Text),  # the caller's own name for it
    Column("labels", JSONB),  # {"name": "value"}; null: none. Found by `job_labels`
    Column("recurrence", JSONB),  # as `Recurrence` writes it; null: it runs once
    Column("delay_seconds", Double),  # of a job with a key, whose delay may be restarted
    Column("max_lateness_seconds", Double),  # begun later than this, a run is skipped; null: never
    Column("contract", Text),  # the older contract that made it and answers it; null: none
    Column("traceparent", Text),  # of the request that created it (W3C Trace Context); null: none
    # The nominal instant of the newest run that began or ended; null: that of its only one.
    Column("last_run_for", Instant),
    Column("runs_made", Integer, nullable=False, server_default=text("1")),  # for the ledger
    Column("runs_begun", Integer, nullable=False, server_default=text("0")),  # for `max_runs`
    Column("version", Integer, nullable=False, server_default=text("1")),  # grows with each change
    CheckConstraint(_one_of("state", JobState), name="jobs_state"),
    CheckConstraint("timeout_seconds > 0 and timeout_seconds <= 120", name="jobs_timeout_seconds"),
    CheckConstraint(_one_of("delivery", Delivery), name="jobs_delivery"),
    # Read by a rescue too, which must not keep a run alive for ever.
    CheckConstraint(
        "(retry ->> 'max_attempts')::integer between 1 and 100", name="jobs_retry_has_an_end"
    ),
    CheckConstraint("run_at < '10000-01-01 00:00:00+00'", name="jobs_run_at_has_four_digits"),
    CheckConstraint("max_lateness_seconds >= 0", name="jobs_max_lateness_seconds"),
    # A job that was ended gives its key away.
    Index(
        "jobs_key",
        "application_id",
        "key",
        unique=True,
        postgresql_where=text("key is not null and state <> 'ended'"),
    ),
    Index("jobs_by_instant", "application_id", "run_at", "id"),
    Index(
        "jobs_of_user",
        "application_id",
        "user_id",
        "run_at",
        "id",
        postgresql_where=text("user_id is not null"),
    ),
    Index("jobs_of_host", "application_id", text(HOST), "run_at", "id"),
    # Read by the forecast.
    Index(
        "jobs_that_recur",
        "application_id",
        "id",
        postgresql_where=text("recurrence is not null"),
    ),
    Index(
        "jobs_of_contract",
        "application_id",
        "contract",
        "id",
        postgresql_where=text("contract is not null"),
    ),
)

# The labels of jobs once more, in an order that a list can be read by.
job_labels = Table(
    "job_labels",
    metadata,
    Column("application_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("run_at", Instant, nullable=False),
    Column("job_id", BigInteger, nullable=False),
    PrimaryKeyConstraint("job_id", "name", name="job_labels_of_job"),
    Index("job_labels_by_instant", "application_id", "name", "value", "run_at", "job_id"),
)

# The due queue: one row per outstanding run, gone when the run ends.
schedules = Table(
    "schedules",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("scheduled_for", Instant, nullable=False),  # the nominal instant; never moves
    # When to act next; moves on retry and release. Infinity while its job is paused.
    Column("due_at", Instant, nullable=False),
    Column("executor_id", UUID(as_uuid=True)),  # who holds the claim
    Column("fence", Integer, nullable=False, server_default=text("0")),  # grows with each claim
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),  # attempts spent
    Column("state", Text, nullable=False, server_default="pending"),
    # An at-most-once run whose first byte may have left: set, durably, before it can.
    Column("marked_at", Instant),
    # A person asked for it again: then its policy counts from here, without what was spent before.
    Column("replayed_at", Instant),
    Column("attempts_forgiven", SmallInteger, nullable=False, server_default=text("0")),
    # The next occurrence of a job that recurs. Not to be claimed before the one after it is here.
    Column("is_next", Boolean, nullable=False, server_default=text("false")),
    Column("spread_seconds", Double),  # how long after `scheduled_for` jitter planned it; null: 0
    PrimaryKeyConstraint("job_id", "scheduled_for", name="schedules_run"),
    CheckConstraint(_one_of("state", OUTSTANDING), name="schedules_state"),
    CheckConstraint(
        "(state = 'executing') = (executor_id is not null)", name="schedules_held_if_executing"
    ),
    CheckConstraint("fence >= attempt and attempt >= 0", name="schedules_fence_covers_attempts"),
    CheckConstraint(
        "marked_at is null or state = 'executing'", name="schedules_marked_if_executing"
    ),
    CheckConstraint(
        "attempts_forgiven between 0 and attempt", name="schedules_forgives_what_was_spent"
    ),
    CheckConstraint(
        "not is_next or (state = 'pending' and attempt = 0)", name="schedules_next_is_pending"
    ),
    # Read by claim, rescue, the forecast and lists. Not partial on state: then a claim would have
    # to move the row's index entries (no HOT update), which costs more than skipping what executes.
    Index("schedules_due", "due_at", "job_id"),
    Index("schedules_one_next", "job_id", unique=True, postgresql_where=text("is_next")),
    Index("schedules_next_due", "due_at", postgresql_where=text("is_next")),
    # A queue's rows live seconds: room on each page for the claim's new version, early vacuum.
    postgresql_with={
        "fillfactor": "70",
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_insert_scale_factor": "0",
        "autovacuum_vacuum_insert_threshold": "50000",
        "autovacuum_analyze_scale_factor": "0",
        "autovacuum_analyze_threshold": "20000",
        "autovacuum_vacuum_cost_delay": "0",
    },
)

# History: one row per attempt, and one per run that ended without any (cancelled, skipped).
# Written once, but for `replayed_at`; partitioned by day so that old days are dropped, never
# deleted row by row.
executions = Table(
    "executions",
    metadata,
    Column("job_id", BigInteger, nullable=False),
    Column("scheduled_for", Instant, nullable=False),
    Column("finished_at", Instant, nullable=False),  # the partition's key
    Column("started_at", Instant),  # null: never sent, or nobody knows
    Column("lateness_ms", Double),  # started_at minus the instant this attempt was planned for
    Column("executor_id", UUID(as_uuid=True)),
    Column("attempt", SmallInteger, nullable=False),
    Column("http_status", SmallInteger),
    Column("state", Text, nullable=False),
    Column("error", Text),  # class and message, "timeout: no answer within 15 s"
    Column("response", LargeBinary),  # its first KiB
    # Of the claim it was made under: a replay goes on from here, so that what an earlier claim
    # still records is refused.
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("replayed_at", Instant),  # a dead letter that was given another life
    PrimaryKeyConstraint(
        "job_id", "scheduled_for", "attempt", "finished_at", name="executions_of_job"
    ),
    CheckConstraint(_one_of("state", ExecutionState), name="executions_state"),
    Index(
        "executions_dead_letters",
        "finished_at",
        "job_id",
        "scheduled_for",
        postgresql_where=text(f"{_one_of('state', DEAD_LETTERS)} and replayed_at is null"),
    ),
    # Read by lists and statistics. What ends at about the same time lies together: cheap to append.
    Index(
        "executions_by_end",
        *("state", "finished_at", "job_id", "scheduled_for", "attempt"),
        postgresql_include=["replayed_at"],
    ),
    postgresql_partition_by="range (finished_at)",
)

# The first answer to each request that came with an Idempotency-Key, for as long as it is kept.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("application_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),  # SHA-256 of what was asked
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    PrimaryKeyConstraint("application_id", "key", name="idempotency_keys_of_application"),
    Index("idempotency_keys_by_age", "created_at"),
)

# One row per running executor process; a lapsed heartbeat is the lease's end.
executors = Table(
    "executors",
    metadata,
    Column("id", UUID(as_uuid=True), primary_key=True),
    Column("heartbeat_at", Instant, nullable=False, server_default=NOW),
    Column("started_at", Instant, nullable=False, server_default=NOW),
    # As it took them, so that a rescue by one with other settings is right.
    Column("lease_seconds", Double, nullable=False),
    Column("claim_ahead_seconds", Double, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    # Rewritten each second: keep the new version on the same page.
    postgresql_with={"fillfactor": "50", "autovacuum_vacuum_threshold": "500"},
)
