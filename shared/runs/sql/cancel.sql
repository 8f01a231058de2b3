-- cancel: pending → cancelled, by the primary key. What is pending of a job leaves the queue, the job ends.
-- Guard: the run is pending; a claim that commits first wins. Answers the runs it moved.
-- A next occurrence that a claim was making meanwhile is not seen: ask again after the commit. Were nobody to ask, it
-- would not occur, for its job has ended.
with moved as (
    delete from schedules
    using jobs
    where schedules.job_id = %(job_id)s
        and schedules.state = 'pending'
        and jobs.id = schedules.job_id
        and (%(application_id)s::integer is null or jobs.application_id = %(application_id)s)
    returning schedules.job_id, schedules.scheduled_for, schedules.attempt
),
ended as (
    update jobs
    set
        state = 'ended',
        last_run_for = greatest(last_run_for, (select max(scheduled_for) from moved)),
        updated_at = now()
    where id in (select job_id from moved)
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at)
select job_id, scheduled_for, attempt, 'cancelled', now()
from moved
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = executions.job_id)
