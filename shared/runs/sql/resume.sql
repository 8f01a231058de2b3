-- resume: pending → pending, by the primary key. What was held is due at its instant again, or at once if that is over.
-- Guards: the run is pending and held; its job is active. Answers the jobs whose runs are due again.
update schedules
set due_at = case
    when attempt = 0 then scheduled_for + coalesce(spread_seconds, 0) * interval '1 second'
    else now()
end
where job_id = %(job_id)s
    and state = 'pending'
    and due_at = 'infinity'
    and exists (select from jobs where jobs.id = schedules.job_id and jobs.state = 'active')
returning job_id
