"""Claims, fires, records, rescues; never serves users.

Read it in this order: executor, claim, lock, clock, lease, bulkhead, gate, mark, breaker, fire,
client, egress, resolver, signing, retry, record, rescue, partitions, rhythm, health.
"""
