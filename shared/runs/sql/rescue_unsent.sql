-- rescue_unsent: executing → pending, by index schedules_due. Certainly unsent, so it costs no attempt: runs that
-- were due only after their executor's lease had ended (it never sends past its lease), and at-most-once runs that
-- it had not marked (it never sends those before). Of a paused job they wait until that is resumed.
-- Guards: held, and so executing (a CHECK says), by an executor that we hold locked as lapsed; not marked.
update schedules
set
    state = 'pending',
    executor_id = null,
    due_at = case
        when exists (select from jobs where id = schedules.job_id and jobs.state = 'paused') then 'infinity'
        else schedules.due_at
    end
from executors
where executors.id = any(%(lapsed)s::uuid[])
    and schedules.due_at <= now() + executors.claim_ahead_seconds * interval '1 second'
    and schedules.executor_id = executors.id
    and schedules.marked_at is null
    and (
        (select delivery from jobs where jobs.id = schedules.job_id) = 'at_most_once'
        or schedules.due_at > executors.heartbeat_at + executors.lease_seconds * interval '1 second'
    )
returning
    schedules.job_id,
    (extract(epoch from schedules.scheduled_for) * 1000000)::bigint,
    schedules.attempt,
    (select application_id from jobs where jobs.id = schedules.job_id)
