-- create: → pending. One statement for all the jobs that wait to be created at this moment.
-- The database's clock fixes each instant that was asked for as a delay: now() plus the delay. Of a job that recurs
-- the first occurrence is made, which makes the one after it when it is claimed. Answers ids and instants in the order asked.
with asked as materialized (
    select
        nextval(pg_get_serial_sequence('jobs', 'id')) as id,
        coalesce(
            to_timestamp(run_at_us / 1000000) + mod(run_at_us, 1000000) * interval '1 microsecond',
            now() + delay_seconds * interval '1 second'
        ) as run_at,
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
        %(deliveries)s::text[],
        %(run_ats)s::bigint[],
        %(user_ids)s::text[],
        %(keys)s::text[],
        %(labels)s::jsonb[],
        %(recurrences)s::jsonb[],
        %(jitters)s::float8[],
        %(latenesses)s::float8[],
        %(contracts)s::text[],
        %(traceparents)s::text[]
    ) with ordinality
        as asked (
            application_id, url, method, headers, payload, timeout_seconds, delay_seconds,
            retry, delivery, run_at_us, user_id, key, labels, recurrence, jitter_seconds,
            max_lateness_seconds, contract, traceparent, place
        )
),
job as (
    insert into jobs (
        id, application_id, url, method, headers, payload, timeout_seconds, run_at, retry, delivery,
        user_id, key, labels, recurrence, delay_seconds, max_lateness_seconds, contract, traceparent
    )
    overriding system value
    select
        id, application_id, url, method, headers, payload, timeout_seconds, run_at, retry,
        coalesce(delivery, 'at_least_once'),
        user_id, key, labels, recurrence,
        case when key is not null and run_at_us is null then delay_seconds end,
        max_lateness_seconds, contract, traceparent
    from asked
),
label as (
    insert into job_labels (application_id, name, value, run_at, job_id)
    select application_id, label.key, label.value, run_at, id
    from asked, jsonb_each_text(asked.labels) as label
),
run as (
    insert into schedules (job_id, scheduled_for, due_at, is_next, spread_seconds)
    select
        id,
        run_at,
        case when spread_seconds is null then run_at else run_at + spread_seconds * interval '1 second' end,
        recurrence is not null,
        spread_seconds
    from (
        -- As `Recurrence.spread_seconds` has it: Knuth's multiplicative hash of the id, a share of the jitter.
        select *, jitter_seconds * mod(mod(id, 2147483648) * 2654435761, 4294967296) / 4294967296.0 as spread_seconds
        from asked
    ) as spread
)
select id, (extract(epoch from run_at) * 1000000)::bigint from asked order by place
