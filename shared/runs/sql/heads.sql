-- The next occurrences that are due about now, by index schedules_next_due, each locked until we commit: nobody else
-- claims, edits or cancels them meanwhile. Whether another run of the job has begun and not ended is told too.
select
    schedules.job_id,
    (extract(epoch from schedules.scheduled_for) * 1000000)::bigint,
    (extract(epoch from schedules.due_at) * 1000000)::bigint,
    (extract(epoch from now()) * 1000000)::bigint,
    jobs.state,
    jobs.recurrence,
    jobs.runs_begun,
    -- Not `exists`, which may be hashed: then all of `schedules` would be read.
    coalesce(
        (
            select true from schedules as other
            where other.job_id = schedules.job_id and not other.is_next
            limit 1
        ),
        false
    ),
    jobs.application_id
from schedules
join jobs on jobs.id = schedules.job_id
where schedules.is_next
    and schedules.due_at > now() - %(late_seconds)s * interval '1 second'
    and schedules.due_at <= now() + %(ahead_seconds)s * interval '1 second'
order by schedules.due_at
limit %(most)s
for update of schedules skip locked
