-- rescue: executing → pending, by index schedules_due. The attempt is abandoned: it may have been sent,
-- nobody knows; the run fires again at once under the same webhook-id; of a paused job, once that is resumed.
-- Guards: held, and so executing (a CHECK says), by an executor that we hold locked as lapsed; at least once; attempts are left, or this
-- was the last and may never have been sent: then there is one more.
with moved as (
    update schedules
    set
        state = 'pending',
        executor_id = null,
        attempt = schedules.attempt + 1,
        due_at = case
            when exists (select from jobs where id = schedules.job_id and jobs.state = 'paused') then 'infinity'
            else schedules.due_at
        end
    from executors
    where executors.id = any(%(lapsed)s::uuid[])
        and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
        and schedules.executor_id = executors.id
        and schedules.attempt + 1 - schedules.attempts_forgiven <= (
            select coalesce((retry ->> 'max_attempts')::integer, %(max_attempts)s)
            from jobs
            where jobs.id = schedules.job_id and delivery = 'at_least_once'
        )
    returning
        schedules.job_id, schedules.scheduled_for, schedules.attempt, schedules.fence, executors.id as executor_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, executor_id, fence, error)
select
    job_id, scheduled_for, attempt, 'abandoned', now(), executor_id, fence,
    'abandoned: the executor fell silent; whether the webhook was sent is unknown'
from moved
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = executions.job_id)
