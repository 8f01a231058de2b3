-- bury_abandoned: executing → failed, by index schedules_due. Abandoned on its last attempt: a run that
-- kills each executor that holds it must end too.
-- Guards: executing, and held by an executor that we hold locked as lapsed; no attempt is left.
with moved as (
    delete from schedules
    using executors
    where executors.id = any(%(lapsed)s::uuid[])
        and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
        and schedules.state = 'executing'
        and schedules.executor_id = executors.id
        and schedules.attempt + 1 >= %(attempts_max)s
    returning schedules.job_id, schedules.scheduled_for, schedules.attempt, executors.id as executor_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, executor_id, error)
select
    job_id, scheduled_for, attempt + 1, 'failed', now(), executor_id,
    'abandoned: the executor fell silent on the last attempt'
from moved
returning job_id
