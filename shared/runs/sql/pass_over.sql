-- pass_over: pending → skipped, by the primary key. The next occurrence, and others after it that nobody made a row of,
-- end unsent: they were missed, or the last one is still at it. The first one that is not passed over takes its place.
-- Guards: it is the next occurrence, and so pending (a CHECK says). Answers the job if it moved anything.
with moved as (
    delete from schedules
    where job_id = %(job_id)s
        and scheduled_for = to_timestamp(%(scheduled_for)s / 1000000)
            + mod(%(scheduled_for)s, 1000000) * interval '1 microsecond'
        and is_next
    returning job_id, scheduled_for, fence
),
passed as (
    select
        moved.job_id,
        moved.fence,
        to_timestamp(passed_us / 1000000) + mod(passed_us, 1000000) * interval '1 microsecond' as scheduled_for
    from moved, unnest(%(passed)s::bigint[]) as passed_us
),
active as (
    update jobs
    set
        run_at = coalesce(
            to_timestamp(%(next_for)s / 1000000) + mod(%(next_for)s, 1000000) * interval '1 microsecond',
            jobs.run_at
        ),
        last_run_for = greatest(jobs.last_run_for, (select max(scheduled_for) from passed)),
        runs_made = jobs.runs_made + (select count(*) from passed) - 1
            + case when %(next_for)s::bigint is null or jobs.state = 'ended' then 0 else 1 end
    from moved
    where jobs.id = moved.job_id
    returning jobs.id, jobs.run_at, jobs.state
),
label as (
    update job_labels set run_at = active.run_at from active where job_labels.job_id = active.id
),
next_run as (
    insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds)
    select
        id, run_at,
        case when state = 'paused' then 'infinity' else run_at + %(spread)s * interval '1 second' end,
        true, nullif(%(spread)s, 0)
    from active
    where %(next_for)s::bigint is not null and state <> 'ended'
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at, error, fence)
select job_id, scheduled_for, 0, 'skipped', now(), %(reason)s, fence
from passed
returning job_id
