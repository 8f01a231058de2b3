-- release: executing → pending, by the primary key. Given back unsent: costs no attempt, leaves no history.
-- Of a paused job it waits until that is resumed.
-- Guards: the run is executing under the very claim that is given back. Answers the runs it moved.
update schedules
set
    state = 'pending',
    executor_id = null,
    marked_at = null,
    due_at = case
        when exists (select from jobs where id = claim.job_id and jobs.state = 'paused') then 'infinity'
        else greatest(schedules.due_at, now() + claim.delay_seconds * interval '1 second')
    end
from unnest(
    %(job_ids)s::bigint[],
    %(scheduled_fors)s::bigint[],
    %(fences)s::integer[],
    %(delays)s::float8[]
) as claim (job_id, scheduled_for_us, fence, delay_seconds)
where schedules.job_id = claim.job_id
    and schedules.scheduled_for = to_timestamp(claim.scheduled_for_us / 1000000)
        + mod(claim.scheduled_for_us, 1000000) * interval '1 microsecond'
    and schedules.state = 'executing'
    and schedules.fence = claim.fence
returning schedules.job_id
