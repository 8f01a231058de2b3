-- create: → pending. One statement for all the jobs that wait to be created at this moment.
-- The database's clock fixes each instant: now() plus the delay. Answers the ids in the order asked.
with asked as materialized (
    select
        nextval(pg_get_serial_sequence('jobs', 'id')) as id,
        now() + delay_seconds * interval '1 second' as run_at,
        asked.*
    from unnest(
        %(application_ids)s::integer[],
        %(urls)s::text[],
        %(methods)s::text[],
        %(headers)s::jsonb[],
        %(payloads)s::bytea[],
        %(timeouts)s::float8[],
        %(delays)s::float8[],
        %(retries)s::jsonb[],
        %(deliveries)s::text[]
    ) with ordinality
        as asked (
            application_id, url, method, headers, payload, timeout_seconds, delay_seconds,
            retry, delivery, place
        )
),
job as (
    insert into jobs (
        id, application_id, url, method, headers, payload, timeout_seconds, run_at, retry, delivery
    )
    overriding system value
    select
        id, application_id, url, method, headers, payload, timeout_seconds, run_at, retry,
        coalesce(delivery, 'at_least_once')
    from asked
),
run as (
    insert into schedules (job_id, scheduled_for, due_at)
    select id, run_at, run_at from asked
)
select id from asked order by place
