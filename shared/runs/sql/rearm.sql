-- rearm: → pending. A job whose run is over gets another one, as it is now; while it is paused, that is due never.
-- Its instant is none that the job has run at: each run has a name of its own.
-- Guards: the job is the caller's and was not ended; nothing of it is outstanding. Answers the run's instant.
with job as (
    update jobs
    set
        runs_made = runs_made + 1,
        runs_begun = 0,
        last_run_for = case
            when recurrence is null then greatest(last_run_for, run_at) else last_run_for
        end
    where id = %(job_id)s
        and application_id = %(application_id)s
        and state <> 'ended'
        and not exists (select from schedules where schedules.job_id = jobs.id)
    returning id, state, run_at, last_run_for
)
insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds)
select
    id,
    instant,
    case when state = 'paused' then 'infinity' else instant + coalesce(%(spread)s, 0) * interval '1 second' end,
    %(is_next)s,
    %(spread)s
from job, lateral (
    select asked + case when asked in (run_at, last_run_for) then interval '1 microsecond' else '0' end as instant
    from (
        select coalesce(
            to_timestamp(%(run_at)s / 1000000) + mod(%(run_at)s, 1000000) * interval '1 microsecond',
            now() + %(delay_seconds)s * interval '1 second'
        ) as asked
    ) as said
) as planned
returning (extract(epoch from scheduled_for) * 1000000)::bigint
