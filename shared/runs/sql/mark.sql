-- mark: executing → executing, by the primary key. An at-most-once run is about to be sent: from now on nobody
-- may send it again, and if we fall silent it ends as uncertain.
-- Guards: the run is executing under the very claim that is about to be fired. Answers the runs it marked.
update schedules
set marked_at = now()
from unnest(
    %(job_ids)s::bigint[], %(scheduled_fors)s::bigint[], %(fences)s::integer[]
) as claim (job_id, scheduled_for_us, fence)
where schedules.job_id = claim.job_id
    and schedules.scheduled_for = to_timestamp(claim.scheduled_for_us / 1000000)
        + mod(claim.scheduled_for_us, 1000000) * interval '1 microsecond'
    and schedules.state = 'executing'
    and schedules.fence = claim.fence
returning claim.job_id, claim.scheduled_for_us
