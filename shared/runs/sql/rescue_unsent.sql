-- rescue_unsent: executing → pending, by index schedules_due. Runs that were due only after their executor's
-- lease had ended: it never sends past its lease, so these are certainly unsent and cost no attempt.
-- Guards: executing, and held by an executor that we hold locked as lapsed.
update schedules
set state = 'pending', executor_id = null
from executors
where executors.id = any(%(lapsed)s::uuid[])
    and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
    and schedules.state = 'executing'
    and schedules.executor_id = executors.id
    and schedules.due_at > executors.heartbeat_at + executors.lease_seconds * interval '1 second'
returning schedules.job_id
