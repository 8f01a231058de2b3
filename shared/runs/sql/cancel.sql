-- cancel: pending → cancelled, by the primary key. The run leaves the queue, the job ends.
-- Guard: the run is pending; a claim that commits first wins. Answers the runs it moved.
with moved as (
    delete from schedules
    using jobs
    where schedules.job_id = %(job_id)s
        and schedules.state = 'pending'
        and jobs.id = schedules.job_id
        and jobs.application_id = %(application_id)s
    returning schedules.job_id, schedules.scheduled_for, schedules.attempt
),
ended as (
    update jobs set state = 'ended', updated_at = now() where id in (select job_id from moved)
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at)
select job_id, scheduled_for, attempt, 'cancelled', now()
from moved
returning job_id
