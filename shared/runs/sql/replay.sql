-- replay: failed | uncertain → pending, by index executions_dead_letters. A person asked for it: the run goes on
-- under its webhook-id, its attempts counted on, its policy from the start; overdue, so it queues as backlog.
-- Guards: a dead letter that was not replayed yet nor attempted too often, of a job that was not ended, and that is not
-- pruned before we commit. Answers the runs it moved.
with letter as materialized (
    select executions.job_id, executions.scheduled_for, executions.attempt, executions.finished_at
    from executions
    join jobs on jobs.id = executions.job_id
    where executions.state in ('failed', 'uncertain')
        and executions.replayed_at is null
        and executions.attempt <= %(attempt_max)s
        and executions.finished_at >= coalesce(to_timestamp(%(finished_from)s), '-infinity')
        and executions.finished_at < coalesce(to_timestamp(%(finished_to)s), now())
        and (%(state)s::text is null or executions.state = %(state)s)
        and (%(job_id)s::bigint is null or executions.job_id = %(job_id)s)
        and (
            %(scheduled_for_us)s::bigint is null
            or executions.scheduled_for = to_timestamp(%(scheduled_for_us)s / 1000000)
                + mod(%(scheduled_for_us)s, 1000000) * interval '1 microsecond'
        )
        and (
            %(host)s::text is null
            or lower(substring(jobs.url from '^[^:]+://(\[[^]]*\]|[^/?#:]*)') collate "C") = %(host)s
        )
        and jobs.application_id = %(application_id)s
        and jobs.state <> 'ended'
    order by executions.finished_at
    limit %(most)s
    for update of executions skip locked
    for key share of jobs
),
taken as (
    update executions
    set replayed_at = now()
    from letter
    where executions.job_id = letter.job_id
        and executions.scheduled_for = letter.scheduled_for
        and executions.attempt = letter.attempt
        and executions.finished_at = letter.finished_at
    returning executions.job_id, executions.scheduled_for, executions.attempt, executions.fence
)
insert into schedules (job_id, scheduled_for, due_at, fence, attempt, attempts_forgiven, replayed_at)
select job_id, scheduled_for, scheduled_for, greatest(fence, attempt), attempt, attempt, now()
from taken
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = schedules.job_id)
