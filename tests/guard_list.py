"""Every guard, fence and lease check of the code, and the tests that notice its absence."""

from typing import NamedTuple


class Guard(NamedTuple):
    """Code that a promise rests on; taken out, it leaves `without`. `tests` are pytest's words."""

    file: str
    name: str
    code: str
    without: str
    tests: tuple[str, ...]


MOVES = "tests/integration/test_moves.py"
OCCURRENCES = "tests/integration/test_occurrences.py"
FAULTS = "tests/acceptance/test_faults.py"
CERTAINTY = "tests/acceptance/test_delivery_certainty.py"
POSTGRES = "tests/acceptance/test_postgres_misbehaves.py"
LEASE = "tests/integration/test_lease.py"
PRUNE = "tests/integration/test_prune.py"
BULKHEAD = "tests/unit/test_bulkhead.py"
KEYS = "tests/acceptance/test_idempotency.py"
KEYS_OUTAGES = "tests/acceptance/test_idempotency_outages.py"
MONOTONIC = "monotonic() < self._holds_until"


def _sql(name: str, guard: str, code: str, without: str = "", *, which: str = "") -> Guard:
    tests = (MOVES, "-k", which or f"{name}-")
    return Guard(f"shared/runs/sql/{name}.sql", guard, code, without, tests)


def _of_a_claim(name: str) -> list[Guard]:
    alias = "claim" if name in {"mark", "release"} else "outcome"
    return [
        _sql(name, "the run is executing", "and schedules.state = 'executing'"),
        _sql(name, "the fence", f"and schedules.fence = {alias}.fence"),
    ]


def _occurrence(file: str, guard: str, code: str, without: str, which: str) -> Guard:
    return Guard(f"shared/runs/sql/{file}", guard, code, without, (OCCURRENCES, "-k", which))


def _of_a_rescue(name: str) -> list[Guard]:
    some = "leaves_the_living"
    return [
        _sql(name, "of its executor", "and schedules.executor_id = executors.id", which=some),
        _sql(name, "of the lapsed", "executors.id = any(%(lapsed)s::uuid[])", "true", which=some),
    ]


STATEMENTS = (
    *[guard for name in ("mark", "deliver", "retry", "bury") for guard in _of_a_claim(name)],
    *[guard for name in ("doubt", "skip", "release") for guard in _of_a_claim(name)],
    _sql("occur", "it is the next one", "        and schedules.is_next\n"),
    _occurrence("occur.sql", "its job is active", " and jobs.state = 'active'", "", "looked_at"),
    *[
        _occurrence(f"{name}.sql", "a paused job waits", "jobs.state = 'paused')", "false)", which)
        for name, which in (
            ("retry", "goes_back_to_wait and retry"),
            ("release", "goes_back_to_wait and release"),
            ("rescue", "goes_back_to_wait and rescue"),
            ("rescue_unsent", "goes_back_to_wait and rescue_unsent"),
        )
    ],
    _occurrence(
        "resume.sql", "its job is active", " and jobs.state = 'active'", "", "goes_back_to_wait"
    ),
    _occurrence(
        "edit.sql",
        "an occurrence is not made twice",
        "            or %(run_at)s > ",
        "            or true or %(run_at)s > ",
        "not_made_again",
    ),
    Guard(
        "shared/runs/sql/edit.sql",
        "a run is not moved to another's instant",
        "other.scheduled_for <> schedules.scheduled_for",
        "false",
        ("tests/acceptance/test_jobs.py", "-k", "run_that_has_begun"),
    ),
    _sql("wait", "it is the next one", "    and schedules.is_next\n"),
    _sql("pass_over", "it is the next one", "        and is_next\n"),
    _sql("hold", "it is pending", " and state = 'pending'\n", "\n"),
    _sql("hold", "its job is paused", " and state = 'paused' for share", "", which="active_job"),
    _sql("resume", "it is pending", "    and state = 'pending'\n"),
    _sql("resume", "it is held", "    and due_at = 'infinity'\n", which="not_held"),
    _occurrence("claim.sql", "no next occurrence", "        and not is_next\n", "", "one_after_it"),
    _occurrence(
        "heads.sql", "what another looks at is left to it", " skip locked", "", "two_executors"
    ),
    _sql("claim", "the run is pending", "and state = 'pending'"),
    _sql(
        "claim",
        "the claimer's lease is alive",
        "and heartbeat_at > now() - lease_seconds * interval '1 second'",
        which="living_lease",
    ),
    _sql("claim", "the claimer is known", "and exists (select from holder)", which="living_lease"),
    _sql(
        "claim",
        "the claimer is not forgotten meanwhile",
        "for key share",
        which="waits_for_a_claim",
    ),
    _sql(
        "claim",
        "runs that another claim holds are left to it",
        "for update skip locked",
        "for update",
        which="at_once",
    ),
    _sql(
        "claim",
        "nothing is claimed long before its instant",
        "and due_at <= now() + %(ahead_seconds)s * interval '1 second'",
        which="earliest",
    ),
    _sql("claim", "the fence grows", "fence = fence + 1", "fence = fence", which="fence"),
    _sql("orphans", "only what is due", "due_at <= now()\n    and", "true and", which="nobody"),
    _sql("orphans", "nothing is held for unsent", "now(), 0.0", "'-infinity', 0.0", which="nobody"),
    Guard(
        "shared/runs/sql/rescue.sql",
        "an abandoned last attempt is owed one more",
        "schedules.attempts_forgiven <= (",
        "schedules.attempts_forgiven < (",
        (MOVES, FAULTS, "-k", "single_attempt or how_often"),
    ),
    Guard(
        "shared/runs/sql/bury_abandoned.sql",
        "an abandoned last attempt is not the end",
        "schedules.attempts_forgiven > (",
        "schedules.attempts_forgiven >= (",
        (FAULTS, "-k", "single_attempt"),
    ),
    _sql("edit", "the run is pending", "and schedules.state = 'pending'"),
    _sql("edit", "no attempt was made", "and schedules.attempt = 0", which="cannot_be_edited"),
    _sql(
        "edit",
        "the job is the caller's",
        "and jobs.application_id = %(application_id)s",
        which="edit_without",
    ),
    Guard(
        "shared/runs/sql/edit.sql",
        "a run that was asked for stays where it is",
        "        and (schedules.is_next or schedules.scheduled_for = jobs.run_at)\n",
        "",
        ("tests/acceptance/test_jobs.py", "-k", "asked_for"),
    ),
    _sql("cancel", "the run is pending", "and schedules.state = 'pending'"),
    _sql(
        "cancel",
        "the job is the caller's",
        "and (%(application_id)s::integer is null or jobs.application_id = %(application_id)s)",
        which="of_another",
    ),
    _sql("trigger", "the job was not ended", " and state <> 'ended'", which="is_left_alone"),
    _sql("rearm", "the job was not ended", "and state <> 'ended'", which="is_left_alone"),
    _sql(
        "rearm",
        "nothing of it is outstanding",
        "and not exists (select from schedules where schedules.job_id = jobs.id)",
        which="is_left_alone",
    ),
    *[
        _sql(
            name,
            "the job is the caller's",
            "and application_id = %(application_id)s",
            which="is_left_alone",
        )
        for name in ("trigger", "rearm")
    ],
    _sql("replay", "a dead letter", "executions.state in ('failed', 'uncertain')", "true"),
    _sql(
        "replay", "not replayed yet", "        and executions.replayed_at is null\n", which="replay"
    ),
    _sql("replay", "the job was not ended", "and jobs.state <> 'ended'", which="what_fits"),
    _sql(
        "replay",
        "the job is the caller's",
        "and jobs.application_id = %(application_id)s",
        which="what_fits",
    ),
    _sql(
        "replay",
        "of two replays one wins",
        "    for update of executions skip locked\n",
        which="replays_at_once",
    ),
    _sql("replay", "the fence goes on", "greatest(fence, attempt)", "attempt", which="goes_on"),
    _sql(
        "lapsed",
        "only the lapsed",
        "heartbeat_at < now() - lease_seconds * interval '1 second' and",
        which="leaves_the_living",
    ),
    _sql("lapsed", "never oneself", " and id <> %(executor_id)s", which="rescues_itself"),
    _sql("lapsed", "locked", "for update skip locked", which="finds_itself_forgotten"),
    _sql(
        "lapsed",
        "a claim under way is not waited for",
        "for update skip locked",
        "for update",
        which="waits_for_a_claim",
    ),
    *[guard for name in ("rescue_unsent", "doubt_abandoned") for guard in _of_a_rescue(name)],
    *[guard for name in ("bury_abandoned", "rescue") for guard in _of_a_rescue(name)],
    _sql(
        "rescue_unsent", "not marked", "and schedules.marked_at is null", which="never_sent_again"
    ),
    _sql(
        "rescue_unsent",
        "due after the lease",
        "or schedules.due_at > executors.heartbeat_at",
        "or schedules.due_at > '-infinity' or schedules.due_at > executors.heartbeat_at",
        which="leaves_the_living",
    ),
    _sql(
        "doubt_abandoned",
        "marked",
        "and schedules.marked_at is not null",
        which="leaves_the_living",
    ),
    *[
        _sql(name, "forgiven attempts", " - schedules.attempts_forgiven", which="policy_says")
        for name in ("rescue", "bury_abandoned")
    ],
    Guard(
        "shared/runs/moves.py",
        "the unmarked are rescued before the marked",
        '("rescue_unsent", "doubt_abandoned",',
        '("doubt_abandoned", "rescue_unsent",',
        (MOVES, "-k", "stranded"),
    ),
)

EXECUTOR = (
    Guard(
        "executor_service/executor.py",
        "nothing is sent before its instant",
        "if wait is None or wait > 0:",
        "if wait is None:",
        ("tests/acceptance/test_timers_arrive.py", "-k", "one_second"),
    ),
    Guard(
        "executor_service/executor.py",
        "what was not sent is given back at the stop",
        "        self._recorder.give_back(unsent)\n",
        "",
        (FAULTS, "-k", "gives_back"),
    ),
    Guard(
        "executor_service/fire.py",
        "the lease is asked before sending",
        "if not self.may_send(claim):",
        "if False:",
        (FAULTS, "-k", "no_longer_owns"),
    ),
    Guard(
        "executor_service/executor.py",
        "who stops waits for an outage to end",
        "asyncio.timeout(deadline - monotonic())",
        "asyncio.timeout(self._settings.lease_seconds)",
        (FAULTS, "-k", "stop_in_an_outage"),
    ),
    Guard(
        "executor_service/executor.py",
        "backlog gives way to what is on time",
        "is_fresh = _is_fresh(claim, self._clock.now())",
        "is_fresh = True",
        ("tests/acceptance/test_destination_down.py", "-k", "leaves_places"),
    ),
    Guard(
        "executor_service/fire.py",
        "the lease is asked when the name was looked up",
        "            if not self.may_send(claim):\n                return PutOff(0.0)\n",
        "",
        ("tests/acceptance/test_egress.py", "-k", "end_of_the_lease"),
    ),
    Guard(
        "executor_service/gate.py",
        "a probe that could not be marked gives up its place",
        "                await self.breakers.learn(destination, answered=None)\n",
        "",
        ("tests/integration/test_gate.py",),
    ),
    Guard(
        "executor_service/gate.py",
        "at most once is marked",
        "hindrance is None and claim.is_at_most_once and not",
        "hindrance is None and False and not",
        (CERTAINTY, "-k", "durably"),
    ),
    Guard(
        "executor_service/gate.py",
        "what could not be marked is not sent",
        "not await self.marker.mark(claim)",
        "not [await self.marker.mark(claim)]",
        (CERTAINTY, "-k", "cannot_be_marked"),
    ),
    Guard(
        "executor_service/gate.py",
        "what is too old is not tried again",
        "if claim.attempt - claim.attempts_forgiven > 1 and is_too_old(claim, policy, now):",
        "if False:",
        ("tests/acceptance/test_destination_down.py", "tests/integration/test_gate.py"),
    ),
    Guard(
        "executor_service/record.py",
        "at most once is not tried again",
        "if claim.is_at_most_once and outcome.was_sent:",
        "if False:",
        (CERTAINTY, "-k", "one_request"),
    ),
    Guard(
        "executor_service/record.py",
        "an outcome outlives an outage",
        "await asyncio.sleep(delay)\n                delay =",
        "return\n                delay =",
        (POSTGRES, "-k", "read_only"),
    ),
    Guard(
        "executor_service/record.py",
        "one bad outcome holds up no other",
        "await self._write_apart(name, move, items, error)",
        "pass",
        ("tests/integration/test_recorder.py",),
    ),
    Guard(
        "executor_service/lease.py",
        "the lease ends",
        MONOTONIC,
        "True",
        (FAULTS, "-k", "no_longer_owns"),
    ),
    Guard(
        "executor_service/lease.py",
        "claims of an earlier id",
        "executor_id == self.executor_id and ",
        "",
        (LEASE, FAULTS, "-k", "forgotten or in_line"),
    ),
    Guard("executor_service/lease.py", "the margin", " - self._margin_seconds\n", "\n", (LEASE,)),
    Guard(
        "executor_service/lease.py",
        "counted from the asking",
        "self._holds_until = asked_at",
        "self._holds_until = monotonic()",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "connected for a full lease before a rescue",
        "self.is_held and connected_seconds >= self._lease_seconds",
        "self.is_held",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "connected again, the wait for a rescue begins, and ends",
        'self._connected_since == float("inf") or ',
        "",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "cut off, the wait for a rescue begins anew",
        "            self._connected_since = monotonic()\n",
        "            self._connected_since = min(self._connected_since, monotonic())\n",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "the forgotten take a new id",
        "        self.executor_id = str(uuid4())\n        values",
        "        values",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "who leaves something behind stays on the list",
        "and not exists (",
        "and true or not exists (",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "who leaves waits for its own claims",
        '            await connection.execute(_WAIT_FOR_CLAIMS, {"id": self.executor_id})\n',
        "",
        (LEASE,),
    ),
    Guard(
        "executor_service/lease.py",
        "the clock is asked before a rescue",
        "self._read_clock(row[0], asked_at=asked_at, heard_at=monotonic()) and (",
        "(",
        (LEASE, "-k", "set_forward"),
    ),
    Guard(
        "executor_service/lease.py",
        "when the clock was set, the wait for a rescue begins anew",
        'log.warning("database.clock_was_set")\n            self._connected_since = monotonic()',
        'log.warning("database.clock_was_set")',
        (LEASE, "-k", "set_forward"),
    ),
    Guard(
        "executor_service/clock.py",
        "a clock that was set is told",
        "return agrees",
        "return True",
        ("tests/unit/test_clock.py",),
    ),
    Guard(
        "executor_service/rescue.py",
        "asked again when the connection is there",
        "if not await lease.may_still_rescue(connection):",
        "if False:",
        (LEASE, "-k", "waits_for_a_connection"),
    ),
    Guard(
        "executor_service/claim.py",
        "strays are given back",
        "if monotonic() < self._unsure_until:",
        "if False:",
        (POSTGRES, "-k", "lost"),
    ),
    Guard(
        "executor_service/claim.py",
        "a claim under way is waited for",
        "        await connection.execute(_WAIT_FOR_CLAIMS,",
        "        dict(",
        ("tests/integration/test_claims.py", "-k", "of_ours"),
    ),
    Guard(
        "executor_service/claim.py",
        "one look does not make sure",
        "        strays = [",
        "        self._unsure_until = -math.inf\n        strays = [",
        ("tests/integration/test_claims.py", "-k", "of_ours"),
    ),
    Guard(
        "executor_service/claim.py",
        "strays are given back, though committed after the connection broke",
        "if monotonic() < self._unsure_until:",
        "if False:",
        (POSTGRES, "-k", "connection_broke"),
    ),
    Guard(
        "executor_service/claim.py",
        "backlog leaves half the room",
        "room - settings.room // 2, share",
        "room, share",
        ("tests/integration/test_claims.py",),
    ),
    Guard(
        "executor_service/claim.py",
        "backlog leaves an eighth of the room",
        " if room > settings.room // KEPT_FROM_BACKLOG else 0",
        "",
        ("tests/integration/test_claims.py",),
    ),
    Guard(
        "executor_service/claim.py",
        "backlog has a share of each batch",
        "share = most // 10",
        "share = 0",
        ("tests/integration/test_claims.py",),
    ),
    Guard(
        "executor_service/fire.py",
        "what never connected was not sent",
        "was_sent = not was_never_sent(error)\n            kind",
        "was_sent = True\n            kind",
        (CERTAINTY, "-k", "never_connected"),
    ),
    Guard(
        "executor_service/client.py",
        "only a connection that was never made is certain",
        'return "client error (Connect)" in _causes(error)',
        "return True",
        (CERTAINTY, "-k", "one_request"),
    ),
)

EGRESS = "tests/acceptance/test_egress.py"
HOSTILE = "tests/acceptance/test_hostile_receivers.py"
BREAKER = "tests/integration/test_breaker.py"


def _client(guard: str, code: str, without: str, *tests: str) -> Guard:
    return Guard("executor_service/client.py", guard, code, without, tests)


OUTSIDE = (
    _client(
        "http goes to the vetted address",
        "url = target.url.with_ip_host(str(address))",
        "url = target.url",
        *(EGRESS, "-k", "at_the_address"),
    ),
    _client(
        "https goes to the vetted address",
        "builder = builder.resolve(target.host, str(address), target.port)",
        "pass",
        *(EGRESS, "-k", "over_tls"),
    ),
    _client("no proxy", "            .no_proxy()\n", "", EGRESS, "-k", "proxies"),
    _client(
        "no redirect",
        ".follow_redirects(False)",
        ".follow_redirects(True)",
        *(EGRESS, "-k", "redirect"),
    ),
    _client(
        "a doubtful attempt has its own connection",
        "self._idle_per_host_max if reuse else 0",
        "self._idle_per_host_max",
        *(HOSTILE, "-k", "connection_of_its_own"),
    ),
    Guard(
        "executor_service/fire.py",
        "at most once has its own connection",
        " and not claim.is_at_most_once",
        "",
        (CERTAINTY, "-k", "connection_of_its_own"),
    ),
    Guard(
        "executor_service/fire.py",
        "only what may be reached is tried",
        "if self.egress.refusal(address) is None",
        "if True",
        (EGRESS, "-k", "several or however"),
    ),
    Guard(
        "executor_service/fire.py",
        "the deny lists are asked",
        "if denied is not None:",
        "if False:",
        (EGRESS, "-k", "deny"),
    ),
    Guard(
        "executor_service/fire.py",
        "a row cannot smuggle the connection's headers",
        "                headers.pop(name, None)",
        "                pass",
        ("tests/acceptance/test_signed_headers.py",),
    ),
    Guard(
        "executor_service/fire.py",
        "a body is read up to a limit",
        "while size < RESPONSE_READ_MAX:",
        "while True:",
        (HOSTILE, "-k", "up_to_its_limit"),
    ),
    Guard(
        "executor_service/egress.py",
        "a mapped address is the address it maps",
        "address = mapped or address",
        "pass",
        ("tests/unit/test_egress.py",),
    ),
    Guard(
        "executor_service/egress.py",
        "beyond global unicast nothing is public",
        "address not in _GLOBAL_UNICAST",
        "False",
        ("tests/unit/test_egress.py",),
    ),
    Guard(
        "executor_service/partitions.py",
        "writers wait while a day is made",
        "lock table only executions in share row exclusive mode",
        "lock table executions_default in exclusive mode",
        ("tests/integration/test_partitions.py",),
    ),
    Guard(
        "executor_service/partitions.py",
        "writers do not wait behind a long reader",
        "        await connection.execute(PATIENCE)\n",
        "",
        ("tests/integration/test_partitions.py", "-k", "for_long"),
    ),
    Guard(
        "executor_service/breaker.py",
        "one probe among all executors",
        "nx=True, ",
        "",
        (BREAKER,),
    ),
    Guard(
        "executor_service/bulkhead.py",
        "a destination has its limit",
        "if lane.in_flight >= self._per_destination_max or",
        "if",
        (BULKHEAD,),
    ),
    Guard(
        "executor_service/bulkhead.py",
        "later runs take half a lane",
        "return lane.later_in_flight < self._later_max",
        "return True",
        (BULKHEAD,),
    ),
    Guard(
        "handler_service/create.py",
        "a writer leaves when it finds nothing more",
        "            self._writers.discard(writer)",
        "            asyncio.get_running_loop().call_soon(self._writers.discard, writer)",
        ("tests/integration/test_group_commit.py",),
    ),
    Guard(
        "handler_service/idempotency.py",
        "one request at a time under a key",
        "if await cursor.fetchone() != (True,):",
        "if await cursor.fetchone() is None:",
        (KEYS_OUTAGES, "-k", "in_progress"),
    ),
    Guard(
        "handler_service/idempotency.py",
        "another request is refused",
        "if fingerprint != asked.fingerprint:",
        "if False:",
        (KEYS, "-k", "another_request"),
    ),
    Guard(
        "handler_service/idempotency.py",
        "a key is kept for a day",
        "idempotency_keys.c.created_at > func.now() - _KEPT,",
        "",
        (KEYS, "-k", "for_a_day"),
    ),
    Guard(
        "handler_service/idempotency.py",
        "a first answer that is kept is not written over",
        "where idempotency_keys.created_at <= now() - interval '24 hours'",
        "",
        (KEYS_OUTAGES, "-k", "without_its_lock"),
    ),
    Guard(
        "handler_service/idempotency.py",
        "a key is its application's",
        'idempotency_keys.c.application_id == bindparam("application_id", type_=Integer),',
        "",
        (KEYS, "-k", "another_application"),
    ),
    Guard(
        "handler_service/idempotency.py",
        "a key is locked where no job is",
        'return -1 - (int.from_bytes(digest[:8], "big") >> 1)',
        'return int.from_bytes(digest[:8], "big", signed=True)',
        (KEYS, "-k", "no_key_is_locked"),
    ),
    Guard(
        "handler_service/create.py",
        "transactions of their own leave connections to others",
        "            self._apart,\n",
        "",
        (KEYS_OUTAGES, "-k", "stands_still"),
    ),
    Guard(
        "handler_service/job_edits.py",
        "a cancel waits for an edit under way",
        "            cancelled = await moves.cancel(connection, **whose)\n    while",
        "            pass\n    while",
        ("tests/acceptance/test_timer_edits.py",),
    ),
)

TRIALS = "tests/integration/test_trials.py"
TRIED = "tests/acceptance/test_job_trials_outages.py"

ON_TRIAL = (
    Guard(
        "executor_service/executor.py",
        "a test call goes by the egress rules of webhooks",
        "replace(self._sender, may_send=lambda _: True)",
        "replace(self._sender, may_send=lambda _: True, egress=Egress("
        '[__import__("ipaddress").ip_network("0.0.0.0/0")]))',
        (TRIED, "-k", "egress or inwards"),
    ),
    Guard(
        "executor_service/trials.py",
        "a host that is denied is not looked up",
        "denied = egress.refusal_of(target.host, target.port)",
        "denied = None",
        (TRIED, "-k", "criterion"),
    ),
    Guard(
        "executor_service/trials.py",
        "a look asks of every address",
        "Vetted(str(address), egress.refusal(address))",
        "Vetted(str(address), None)",
        (TRIALS, "-k", "look"),
    ),
    Guard(
        "shared/trials.py",
        "a trial is taken once",
        "await redis.getdel(",
        "await redis.get(",
        (TRIALS, "-k", "taken_once"),
    ),
    Guard(
        "executor_service/trials.py",
        "an executor tries so much at once",
        "len(self._under_way) >= AT_ONCE_MAX or ",
        "",
        (TRIALS, "-k", "at_once"),
    ),
    Guard(
        "executor_service/trials.py",
        "an executor that stops takes no more",
        "        if self._stopped.is_set():\n",
        "        if False:\n",
        (TRIALS, "-k", "leaves_it"),
    ),
    Guard(
        "handler_service/trials.py",
        "a handler lets so many wait",
        "if self._under_way >= AT_ONCE_MAX:",
        "if False:",
        (TRIED, "-k", "so_many"),
    ),
)


def _prune(guard: str, code: str, without: str = "", *, which: str, file: str = "prune") -> Guard:
    return Guard(f"executor_service/{file}.py", guard, code, without, (PRUNE, "-k", which))


PRUNING = (
    _prune("a job is old", "and run_at < %(before)s", which="not_long_ago"),
    _prune("nothing happened to it lately", "and updated_at < %(before)s", which="changed_lately"),
    _prune(
        "it is locked before it is looked at", "for update skip locked\n", which="just_then_stays"
    ),
    _prune(
        "nothing of it is outstanding",
        "and not exists (select from schedules where schedules.job_id = jobs.id)",
        which="outstanding_stays",
    ),
    _prune(
        "its history is old",
        "executions.job_id = jobs.id and executions.finished_at >= %(before)s",
        "false",
        which="ended_lately",
    ),
    _prune(
        "one executor at a time",
        "if not is_ours:",
        "if False:",
        which="one_executor",
        file="turn",
    ),
    _prune(
        "nobody waits behind us",
        "await connection.execute(PATIENCE)",
        "pass",
        which="for_long",
        file="turn",
    ),
    _prune(
        "a day is over", "where upper_bound <= %(before)s", which="all_of_it", file="prune_history"
    ),
    _prune(
        "only what is old leaves the default partition",
        "and (finished_at < %(before)s) is true",
        which="outlives_its_history",
        file="prune_history",
    ),
    _prune(
        "what leaves is settled",
        "set runs_made = runs_made - ended.runs\n    from (select",
        "set runs_made = runs_made\n    from (select",
        which="outlives_its_history",
        file="prune_history",
    ),
    _prune(
        "what leaves with its day is settled",
        "for statement in (LOCK, SETTLE, DROP):",
        "for statement in (LOCK, DROP):",
        which="settled_when",
        file="prune_history",
    ),
    _prune(
        "a replayed end is none",
        "in ('done', 'failed', 'uncertain', 'cancelled', 'skipped') and replayed_at is null",
        "in ('done', 'failed', 'uncertain', 'cancelled', 'skipped')",
        which="settled_twice",
        file="prune_history",
    ),
    Guard(
        "shared/runs/sql/replay.sql",
        "the job is not pruned meanwhile",
        "    for key share of jobs\n",
        "",
        (PRUNE, "-k", "just_then_stays"),
    ),
    Guard(
        "shared/runs/sql/pass_over.sql",
        "of an ended job nothing more is accepted",
        " or jobs.state = 'ended' then 0",
        " then 0",
        ("tests/integration/test_ledger.py", "-k", "ended_meanwhile"),
    ),
    Guard(
        "handler_service/scans.py",
        "one figure at a time",
        "await context.counting.acquire()",
        "pass",
        ("tests/acceptance/test_figures.py", "-k", "one_figure"),
    ),
    Guard(
        "handler_service/scans.py",
        "a count is given up",
        "set_config('statement_timeout', %s, true)",
        "%s",
        ("tests/acceptance/test_figures.py", "-k", "given_up"),
    ),
)

GUARDS = (*STATEMENTS, *EXECUTOR, *PRUNING, *OUTSIDE, *ON_TRIAL)
