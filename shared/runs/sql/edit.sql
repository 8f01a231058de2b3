-- edit: pending → pending, by the primary key. Its job changes, and perhaps its instant; a new delay counts from now.
-- The run's row is replaced, never updated in place: a claim whose snapshot is older than this change finds the old
-- row gone and does not see the new one, so it cannot fire what the job was before.
-- Guards: the run is pending and no attempt was made; of a job that recurs it is the next occurrence, of another
-- the planned run, none that a person asked for beside it; it is moved to the instant of no other run,
-- an occurrence to none that was made already; a claim that commits first wins. Answers the instant of the run it moved.
with moved as (
    delete from schedules
    using jobs
    where schedules.job_id = %(job_id)s
        and schedules.state = 'pending'
        and schedules.attempt = 0
        and schedules.is_next = (jobs.recurrence is not null)
        and (schedules.is_next or schedules.scheduled_for = jobs.run_at)
        and jobs.id = schedules.job_id
        and jobs.application_id = %(application_id)s
        and (
            not %(is_retimed)s
            or not %(is_next)s
            or jobs.recurrence is null
            or %(run_at)s > coalesce((extract(epoch from jobs.last_run_for) * 1000000)::bigint, 0)
        )
        and not exists (
            select from schedules as other
            where other.job_id = schedules.job_id
                and other.scheduled_for <> schedules.scheduled_for
                and other.scheduled_for = to_timestamp(%(run_at)s / 1000000)
                    + mod(%(run_at)s, 1000000) * interval '1 microsecond'
        )
    returning schedules.*
),
planned as (
    select
        moved.job_id,
        moved.fence,
        moved.due_at,
        coalesce(
            to_timestamp(%(run_at)s / 1000000) + mod(%(run_at)s, 1000000) * interval '1 microsecond',
            now() + %(delay_seconds)s * interval '1 second',
            moved.scheduled_for
        ) as instant,
        case when %(is_retimed)s then %(is_next)s else moved.is_next end as is_next,
        case when %(is_retimed)s then %(spread)s else moved.spread_seconds end as spread_seconds
    from moved
)
insert into schedules (job_id, scheduled_for, due_at, fence, is_next, spread_seconds)
select
    job_id,
    instant,
    case
        when due_at = 'infinity' or not %(is_retimed)s then due_at
        else instant + coalesce(spread_seconds, 0) * interval '1 second'
    end,
    fence, is_next, spread_seconds
from planned
returning (extract(epoch from scheduled_for) * 1000000)::bigint
