-- doubt_abandoned: executing → uncertain, by index schedules_due. Marked, and then its executor fell silent: it was
-- sent once or not at all.
-- Guards: held, and so executing (a CHECK says), by an executor that we hold locked as lapsed; marked.
with moved as (
    delete from schedules
    using executors
    where executors.id = any(%(lapsed)s::uuid[])
        and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
        and schedules.executor_id = executors.id
        and schedules.marked_at is not null
    returning
        schedules.job_id, schedules.scheduled_for, schedules.attempt, schedules.fence, executors.id as executor_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, executor_id, fence, error)
select
    job_id, scheduled_for, attempt + 1, 'uncertain', now(), executor_id, fence,
    'abandoned: the executor fell silent; whether the webhook was sent is unknown'
from moved
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = executions.job_id)
