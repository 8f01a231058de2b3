-- claim: pending → executing, by index schedules_due. Takes the earliest runs due in a window around now.
-- Guards: the claimer's lease is alive (its row is locked against a rescue until we commit), the run is
-- pending, and not the next occurrence of a job that recurs (`occur` first makes the one after it). The fence grows, so whatever an earlier holder still records about the run is refused.
with holder as materialized (
    select id
    from executors
    where id = %(executor_id)s and heartbeat_at > now() - lease_seconds * interval '1 second'
    for key share
),
due as materialized (
    select job_id, scheduled_for
    from schedules
    where due_at > now() - %(late_seconds)s * interval '1 second'
        and due_at <= now() + %(ahead_seconds)s * interval '1 second'
        and state = 'pending'
        and not is_next
        and exists (select from holder)
    order by due_at
    limit %(most)s
    for update skip locked
)
update schedules
set state = 'executing', executor_id = %(executor_id)s, fence = fence + 1
from due, jobs, applications
where schedules.job_id = due.job_id
    and schedules.scheduled_for = due.scheduled_for
    and jobs.id = due.job_id
    and applications.id = jobs.application_id
returning
    schedules.job_id,
    (extract(epoch from schedules.scheduled_for) * 1000000)::bigint,
    (extract(epoch from schedules.due_at) * 1000000)::bigint,
    schedules.fence,
    schedules.attempt + 1,
    schedules.attempts_forgiven,
    (
        extract(
            epoch from case
                when schedules.spread_seconds is null then schedules.scheduled_for
                else schedules.scheduled_for + schedules.spread_seconds * interval '1 second'
            end
        ) * 1000000
    )::bigint,
    (extract(epoch from schedules.replayed_at) * 1000000)::bigint,
    jobs.url,
    jobs.method,
    jobs.headers,
    jobs.payload,
    jobs.timeout_seconds,
    jobs.retry,
    jobs.delivery = 'at_most_once',
    jobs.max_lateness_seconds,
    jobs.recurrence is not null,
    jobs.traceparent,
    applications.signing_secret,
    case when applications.previous_secret_until > now() then applications.previous_signing_secret end,
    jobs.application_id
