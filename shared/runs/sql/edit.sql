-- edit: pending → pending, by the primary key. Changes a job whose run has not begun; a new delay counts from now.
-- The run's row is replaced, never updated in place: a claim whose snapshot is older than this change finds the old
-- row gone and does not see the new one, so it cannot fire what the job was before.
-- Guards: the run is pending and no attempt was made; a claim that commits first wins. Answers the runs it moved.
with moved as (
    delete from schedules
    using jobs
    where schedules.job_id = %(job_id)s
        and schedules.state = 'pending'
        and schedules.attempt = 0
        and jobs.id = schedules.job_id
        and jobs.application_id = %(application_id)s
    returning schedules.job_id, schedules.scheduled_for, schedules.due_at, schedules.fence
),
edited as (
    update jobs
    set
        url = case when 'url' = any(%(changed)s) then %(url)s else url end,
        method = case when 'method' = any(%(changed)s) then %(method)s else method end,
        headers = case when 'headers' = any(%(changed)s) then %(headers)s::jsonb else headers end,
        payload = case when 'payload' = any(%(changed)s) then %(payload)s::bytea else payload end,
        timeout_seconds = case
            when 'timeout_seconds' = any(%(changed)s) then %(timeout_seconds)s else timeout_seconds
        end,
        retry = case when 'retry' = any(%(changed)s) then %(retry)s::jsonb else retry end,
        delivery = case when 'delivery' = any(%(changed)s) then %(delivery)s else delivery end,
        run_at = case
            when 'delay_seconds' = any(%(changed)s)
                then now() + %(delay_seconds)s * interval '1 second'
            else run_at
        end,
        updated_at = now()
    from moved
    where jobs.id = moved.job_id
    returning jobs.id, jobs.run_at
)
insert into schedules (job_id, scheduled_for, due_at, fence)
select
    moved.job_id,
    case when 'delay_seconds' = any(%(changed)s) then edited.run_at else moved.scheduled_for end,
    case when 'delay_seconds' = any(%(changed)s) then edited.run_at else moved.due_at end,
    moved.fence
from moved
join edited on edited.id = moved.job_id
returning job_id
