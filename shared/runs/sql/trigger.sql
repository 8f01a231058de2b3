-- trigger: → pending. A person asked for a run now, beside those that are planned.
-- Its instant is no whole millisecond, as each planned one is: so it is never the same run as an occurrence.
-- Guards: the job is the caller's and was not ended. Answers the run's instant.
with asked as (
    select now() + case
        when mod((extract(epoch from now()) * 1000000)::bigint, 1000) = 0 then interval '1 microsecond'
        else interval '0'
    end as instant
),
job as (
    update jobs
    set
        runs_made = runs_made + 1,
        last_run_for = greatest(last_run_for, instant),
        updated_at = now()
    from asked
    where id = %(job_id)s and application_id = %(application_id)s and state <> 'ended'
    returning id, instant
)
insert into schedules (job_id, scheduled_for, due_at)
select id, instant, instant from job
returning (extract(epoch from scheduled_for) * 1000000)::bigint
