-- skip: executing → skipped, by the primary key. It would begin later than its job allows: not sent.
-- Guards: the run is executing under the very claim that would have been fired. Answers the runs it moved.
with outcome as materialized (
    select
        *,
        to_timestamp(scheduled_for_us / 1000000)
            + mod(scheduled_for_us, 1000000) * interval '1 microsecond' as scheduled_for
    from unnest(
        %(job_ids)s::bigint[],
        %(scheduled_fors)s::bigint[],
        %(fences)s::integer[],
        %(executor_ids)s::uuid[],
        %(attempts)s::smallint[],
        %(finished_ats)s::float8[],
        %(errors)s::text[]
    ) as outcome (job_id, scheduled_for_us, fence, executor_id, attempt, finished_at, error)
),
moved as (
    delete from schedules
    using outcome
    where schedules.job_id = outcome.job_id
        and schedules.scheduled_for = outcome.scheduled_for
        and schedules.state = 'executing'
        and schedules.fence = outcome.fence
    returning outcome.*
)
insert into executions (
    job_id, scheduled_for, attempt, state, finished_at, executor_id, fence, error
)
select job_id, scheduled_for, attempt - 1, 'skipped', to_timestamp(finished_at), executor_id, fence, error
from moved
returning job_id
