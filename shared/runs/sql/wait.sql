-- wait: pending → pending, by the primary key. The next occurrence comes after the run that is still at it: asked again soon.
-- Guards: it is the next occurrence, and so pending (a CHECK says). Answers the jobs whose occurrence waits.
update schedules
set due_at = now() + %(seconds)s * interval '1 second'
from unnest(%(job_ids)s::bigint[], %(scheduled_fors)s::bigint[]) as occurrence (job_id, scheduled_for_us)
where schedules.job_id = occurrence.job_id
    and schedules.scheduled_for = to_timestamp(occurrence.scheduled_for_us / 1000000)
        + mod(occurrence.scheduled_for_us, 1000000) * interval '1 microsecond'
    and schedules.is_next
returning schedules.job_id
