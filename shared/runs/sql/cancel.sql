-- cancel: pending → cancelled, by the primary key. What is pending of a job leaves the queue, the job ends.
-- Guard: the run is pending; a claim that commits first wins. Answers the runs it moved.
-- A next occurrence that a claim was making meanwhile is not seen: ask again after the commit. Were nobody to ask, it
-- would not occur, for its job has ended.
with moved as (
    delete from schedules
    using jobs
    where schedules.job_id = any(%(job_ids)s::bigint[])
        and schedules.state = 'pending'
        and jobs.id = schedules.job_id
        and (%(application_id)s::integer is null or jobs.application_id = %(application_id)s)
    returning schedules.job_id, schedules.scheduled_for, schedules.attempt
),
ended as (
    update jobs
    set
        state = 'ended',
        last_run_for = greatest(last_run_for, last.scheduled_for),
        version = version + 1,
        updated_at = now()
    from (select job_id, max(scheduled_for) as scheduled_for from moved group by job_id) as last
    where jobs.id = last.job_id
)
insert into executions (job_id, scheduled_for, attempt, state, finished_at)
select job_id, scheduled_for, attempt, 'cancelled', now()
from moved
returning
    job_id,
    (extract(epoch from scheduled_for) * 1000000)::bigint,
    attempt,
    (select application_id from jobs where jobs.id = executions.job_id)
