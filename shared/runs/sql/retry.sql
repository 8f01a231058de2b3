-- retry: executing → pending, by the primary key. The attempt failed; the next one is due after its delay.
-- Of a paused job it waits until that is resumed.
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
        %(responses)s::bytea[],
        %(errors)s::text[],
        %(delays)s::float8[]
    ) as outcome (
        job_id, scheduled_for_us, fence, executor_id, attempt, started_at, finished_at,
        lateness_ms, http_status, response, error, delay_seconds
    )
),
moved as (
    update schedules
    set
        state = 'pending',
        executor_id = null,
        marked_at = null,
        attempt = outcome.attempt,
        due_at = case
            when exists (select from jobs where id = outcome.job_id and jobs.state = 'paused') then 'infinity'
            else now() + outcome.delay_seconds * interval '1 second'
        end
    from outcome
    where schedules.job_id = outcome.job_id
        and schedules.scheduled_for = outcome.scheduled_for
        and schedules.state = 'executing'
        and schedules.fence = outcome.fence
    returning outcome.*
)
insert into executions (
    job_id, scheduled_for, attempt, state, started_at, finished_at, lateness_ms, executor_id, fence,
    http_status, response, error
)
select
    job_id, scheduled_for, attempt, 'retrying', to_timestamp(started_at), to_timestamp(finished_at),
    lateness_ms, executor_id, fence, http_status, response, error
from moved
returning job_id
