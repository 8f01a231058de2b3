"""Every guard, fence and lease check of the code, and the tests that notice its absence."""

from typing import NamedTuple


class Guard(NamedTuple):
    """Code that something depends on: taken out, it leaves `without`."""

    file: str
    name: str
    code: str
    without: str
    tests: tuple[str, ...]


SQL = "shared/runs/sql"
MOVES = ("tests/integration/test_moves.py",)
ANY_ORDER = ("tests/integration/test_life_in_any_order.py",)


def _sql(name: str, guard: str, code: str, without: str = "") -> Guard:
    return Guard(f"{SQL}/{name}.sql", guard, code, without, MOVES)


_UNDER_A_CLAIM = [
    guard
    for name in ("mark", "deliver", "retry", "bury", "doubt", "release")
    for guard in (
        _sql(name, "the run is executing", "and schedules.state = 'executing'"),
        _sql(
            name,
            "the fence",
            f"and schedules.fence = {'claim' if name in {'mark', 'release'} else 'outcome'}.fence",
        ),
    )
]

GUARDS = (
    *_UNDER_A_CLAIM,
    _sql("claim", "the run is pending", "and state = 'pending'"),
    _sql(
        "claim",
        "the claimer's lease is alive",
        "and heartbeat_at > now() - lease_seconds * interval '1 second'",
    ),
    _sql("claim", "the claimer is registered", "and exists (select from holder)"),
    _sql("claim", "the claimer cannot be forgotten meanwhile", "for key share"),
    _sql(
        "claim",
        "runs that another claim holds are left to it",
        "for update skip locked",
        "for update",
    ),
    _sql(
        "claim",
        "nothing is claimed long before its instant",
        "and due_at <= now() + %(ahead_seconds)s * interval '1 second'",
    ),
    _sql("claim", "the fence grows", "fence = fence + 1", "fence = fence"),
    _sql("edit", "the run is pending", "and schedules.state = 'pending'"),
    _sql("edit", "no attempt was made", "and schedules.attempt = 0"),
    _sql("edit", "the job is the caller's", "and jobs.application_id = %(application_id)s"),
    _sql("cancel", "the run is pending", "and schedules.state = 'pending'"),
    _sql("cancel", "the job is the caller's", "and jobs.application_id = %(application_id)s"),
    _sql("replay", "a dead letter", "executions.state in ('failed', 'uncertain')", "true"),
    _sql(
        "replay",
        "not replayed yet",
        "        and executions.replayed_at is null\n        and executions.finished_at >=",
        "        and executions.finished_at >=",
    ),
    _sql("replay", "the job was not ended", "and jobs.state <> 'ended'"),
    _sql("replay", "the job is the caller's", "and jobs.application_id = %(application_id)s"),
    _sql("replay", "the fence goes on", "greatest(fence, attempt)", "attempt"),
    _sql(
        "lapsed",
        "only the lapsed",
        "heartbeat_at < now() - lease_seconds * interval '1 second' and",
    ),
    _sql("lapsed", "nobody rescues itself", " and id <> %(executor_id)s"),
    _sql("lapsed", "locked against a heartbeat", "for update skip locked"),
    _sql("lapsed", "a claim under way is not waited for", "for update skip locked", "for update"),
    *[
        guard
        for name in ("rescue_unsent", "doubt_abandoned", "bury_abandoned", "rescue")
        for guard in (
            _sql(name, "the run is executing", "and schedules.state = 'executing'"),
            _sql(name, "its executor lapsed", "and schedules.executor_id = executors.id"),
            _sql(name, "of the lapsed ones", "executors.id = any(%(lapsed)s::uuid[])", "true"),
        )
    ],
    _sql("rescue_unsent", "not marked", "and schedules.marked_at is null"),
    _sql(
        "rescue_unsent",
        "due after the lease",
        "or schedules.due_at > executors.heartbeat_at + executors.lease_seconds * interval '1 second'",
        "or true",
    ),
    _sql("doubt_abandoned", "marked", "and schedules.marked_at is not null"),
    _sql("rescue", "at least once", "and delivery = 'at_least_once'"),
    _sql("bury_abandoned", "at least once", "and delivery = 'at_least_once'"),
    _sql("rescue", "forgiven attempts", " - schedules.attempts_forgiven"),
    _sql("bury_abandoned", "forgiven attempts", " - schedules.attempts_forgiven"),
)
