-- deliver: executing → done, by the primary key. The run leaves the queue, its attempt enters history.
-- Guards: the run is executing under the very claim that was fired. Answers the runs it moved.
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
        %(started_ats)s::float8[],
        %(finished_ats)s::float8[],
        %(lateness_mss)s::float8[],
        %(http_statuses)s::smallint[],
        %(responses)s::bytea[]
    ) as outcome (
        job_id, scheduled_for_us, fence, executor_id, attempt, started_at, finished_at,
        lateness_ms, http_status, response
    )
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
    job_id, scheduled_for, attempt, state, started_at, finished_at, lateness_ms, executor_id, fence,
    http_status, response
)
select
    job_id, scheduled_for, attempt, 'done', to_timestamp(started_at), to_timestamp(finished_at),
    lateness_ms, executor_id, fence, http_status, response
from moved
returning job_id
