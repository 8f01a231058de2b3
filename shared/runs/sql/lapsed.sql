-- The executors whose lease has lapsed, each locked against its own heartbeat and claims until we commit.
select id
from executors
where heartbeat_at < now() - %(lease_seconds)s * interval '1 second'
for update skip locked
