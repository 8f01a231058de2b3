-- rescue: executing → pending, by index schedules_due. The attempt is abandoned: it may have been sent,
-- nobody knows; the run fires again at once under the same webhook-id.
-- Guards: executing, and held by an executor that we hold locked as lapsed; attempts are left.
with moved as (
    update schedules
    set state = 'pending', executor_id = null, attempt = schedules.attempt + 1
    from executors
    where executors.id = any(%(lapsed)s::uuid[])
        and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
        and schedules.state = 'executing'
        and schedules.executor_id = executors.id
        and schedules.attempt + 1 < %(attempts_max)s
    returning schedules.job_id, schedules.scheduled_for, schedules.attempt, executors.id as executor_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, executor_id, error)
select
    job_id, scheduled_for, attempt, 'abandoned', now(), executor_id,
    'abandoned: the executor fell silent; whether the webhook was sent is unknown'
from moved
returning job_id
