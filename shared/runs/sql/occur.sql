-- occur: pending → pending, by the primary key. The next occurrence may be claimed from now on, and the one after it
-- takes its place, in the same statement: a crash can neither lose nor double an occurrence.
-- Guards: it is the next occurrence, and so pending (a CHECK says), and its job is active. Answers the jobs whose occurrence it moved.
with occurrence as materialized (
    select
        job_id,
        to_timestamp(scheduled_for_us / 1000000)
            + mod(scheduled_for_us, 1000000) * interval '1 microsecond' as scheduled_for,
        to_timestamp(next_for_us / 1000000)
            + mod(next_for_us, 1000000) * interval '1 microsecond' as next_for,
        spread_seconds,
        queues
    from unnest(
        %(job_ids)s::bigint[], %(scheduled_fors)s::bigint[], %(next_fors)s::bigint[], %(spreads)s::float8[],
        %(queues)s::boolean[]
    ) as occurrence (job_id, scheduled_for_us, next_for_us, spread_seconds, queues)
),
active as (
    update jobs
    set
        run_at = coalesce(occurrence.next_for, jobs.run_at),
        last_run_for = greatest(jobs.last_run_for, occurrence.scheduled_for),
        runs_begun = jobs.runs_begun + 1,
        runs_made = jobs.runs_made + case when occurrence.next_for is null then 0 else 1 end
    from occurrence
    join schedules
        on schedules.job_id = occurrence.job_id
        and schedules.scheduled_for = occurrence.scheduled_for
        and schedules.is_next
    where jobs.id = occurrence.job_id and jobs.state = 'active'
    returning occurrence.*, jobs.labels is not null as has_labels
),
moved as (
    update schedules
    set is_next = false
    from active
    where schedules.job_id = active.job_id
        and schedules.scheduled_for = active.scheduled_for
    returning active.*
),
label as (
    update job_labels
    set run_at = moved.next_for
    from moved
    where job_labels.job_id = moved.job_id and moved.has_labels and moved.next_for is not null
),
next_run as (
    insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds)
    select
        job_id,
        next_for,
        -- One that comes after a run, however long that takes, was not missed: it is overdue from now on.
        case when queues then greatest(planned, now()) else planned end,
        true,
        nullif(spread_seconds, 0)
    from moved, lateral (select next_for + spread_seconds * interval '1 second' as planned) as jittered
    where next_for is not null
)
select job_id from moved
