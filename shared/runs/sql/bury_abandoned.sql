-- bury_abandoned: executing → failed, by index schedules_due. Abandoned on its last attempt: a run that
-- kills each executor that holds it must end too.
-- Guards: held, and so executing (a CHECK says), by an executor that we hold locked as lapsed; at least once; no attempt is left, nor the one more
-- that an abandoned last one is owed, for it may never have been sent.
with moved as (
    delete from schedules
    using executors
    where executors.id = any(%(lapsed)s::uuid[])
        and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
        and schedules.executor_id = executors.id
        and schedules.attempt + 1 - schedules.attempts_forgiven > (
            select coalesce((retry ->> 'max_attempts')::integer, %(max_attempts)s)
            from jobs
            where jobs.id = schedules.job_id and delivery = 'at_least_once'
        )
    returning
        schedules.job_id, schedules.scheduled_for, schedules.attempt, schedules.fence, executors.id as executor_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, executor_id, fence, error)
select
    job_id, scheduled_for, attempt + 1, 'failed', now(), executor_id, fence,
    'abandoned: the executor fell silent on the last attempt'
from moved
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = executions.job_id)
