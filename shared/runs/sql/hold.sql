-- hold: pending → pending, by the primary key. What is pending of a paused job waits until it is resumed: due never.
-- Guards: the run is pending; the job is paused, and stays so until we commit. Answers the jobs whose runs are held.
with paused as materialized (
    select id from jobs where id = any(%(job_ids)s::bigint[]) and state = 'paused' for share
)
update schedules
set due_at = 'infinity'
from paused
where schedules.job_id = paused.id and schedules.state = 'pending'
returning schedules.job_id
