-- hold: pending → pending, by the primary key. What is pending of a paused job waits until it is resumed: due never.
-- The run is locked before its job, as by every move.
-- Guards: the run is pending; the job is paused, and stays so until we commit. Answers the jobs whose runs are held.
with waiting as materialized (
    select job_id, scheduled_for
    from schedules
    where job_id = any(%(job_ids)s::bigint[]) and state = 'pending'
    for update
),
paused as materialized (
    select id from jobs where id in (select job_id from waiting) and state = 'paused' for share
)
update schedules
set due_at = 'infinity'
from waiting
join paused on paused.id = waiting.job_id
where schedules.job_id = waiting.job_id and schedules.scheduled_for = waiting.scheduled_for
returning schedules.job_id
