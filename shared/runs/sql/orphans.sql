-- Runs that execute under an executor that is not on the list, by index schedules_due: none should be. Puts each
-- such executor back on the list as lapsed, so that the next rescue takes what it left. Only what is due: whatever
-- made them orphans, nothing is sent early. Their lease ended long ago, yet nobody knows what was sent: it ends now.
insert into executors (id, heartbeat_at, lease_seconds, claim_ahead_seconds, host, version)
select distinct executor_id, now(), 0.0, 0.0, 'unknown', 'unknown'
from schedules
where due_at <= now()
    and state = 'executing'
    and not exists (select from executors where executors.id = schedules.executor_id)
on conflict do nothing
returning id
