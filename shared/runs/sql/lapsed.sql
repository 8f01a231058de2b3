-- The other executors whose lease, as they took it, has lapsed, each locked against its own heartbeat and claims until we commit.
select id
from executors
where heartbeat_at < now() - lease_seconds * interval '1 second' and id <> %(executor_id)s
for update skip locked
