-- The runs that stand as executing under an executor, by index schedules_due.
select job_id, (extract(epoch from scheduled_for) * 1000000)::bigint, fence
from schedules
where due_at <= now() + %(ahead_seconds)s * interval '1 second'
    and state = 'executing'
    and executor_id = %(executor_id)s
