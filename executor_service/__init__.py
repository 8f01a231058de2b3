"""Claims, fires, records, rescues; never serves users.

Read it in this order: executor, claim, lock, clock, lease, bulkhead, fire, client, egress,
signing, retry, record, rescue, partitions, rhythm, health.
"""
