-- rearm: → pending. A job whose run is over gets another one, as it is now.
-- Guards: the job is the caller's and was not ended; nothing of it is outstanding. Answers the run's instant.
with job as (
    update jobs
    set runs_made = runs_made + 1
    where id = %(job_id)s
        and application_id = %(application_id)s
        and state <> 'ended'
        and not exists (select from schedules where schedules.job_id = jobs.id)
    returning id
)
insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds)
select
    id, instant, instant + coalesce(%(spread)s, 0) * interval '1 second', %(is_next)s, %(spread)s
from job, (
    select coalesce(
        to_timestamp(%(run_at)s / 1000000) + mod(%(run_at)s, 1000000) * interval '1 microsecond',
        now() + %(delay_seconds)s * interval '1 second'
    ) as instant
) as planned
returning (extract(epoch from scheduled_for) * 1000000)::bigint
