"""The plans of lists, at a million jobs: an index that has the order, or the few that fit.

Of the very statements that are shipped, first pages and pages from the middle.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from handler_service import history_reads, job_list_reads, job_reads
from handler_service.job_list_selects import FEW
from tests import list_cases, million
from tests.acceptance.test_timers_contract import fresh_database
from tests.explained import Explained, Plan
from tests.list_cases import MOST
from tests.servers import Servers

pytestmark = pytest.mark.timeout(400)  # the first one waits for the million

# Where a list has one filter, the index that it is read along.
ALONG = {
    "all": "jobs_by_instant",
    "all, ascending": "jobs_by_instant",
    "from, to": "jobs_by_instant",
    "user": "jobs_of_user",
    "user, from, to": "jobs_of_user",
    "key": "jobs_key",
    "host": "jobs_of_host",
    "label": "job_labels_by_instant",
    "common label": "job_labels_by_instant",
    "upcoming": "schedules_due",
    "upcoming, latest first": "schedules_due",
    "executing": "schedules_due",
    "succeeded": "state_finished_at",
    "succeeded, from, to": "state_finished_at",
    "failed": "state_finished_at",
    "uncertain": "state_finished_at",
    "cancelled": "state_finished_at",
    "skipped": "state_finished_at",
}
TABLES = ("jobs", "job_labels", "schedules", "executions")
# Beside a page itself: what is executing, a first row of each partition, runs that were not last.
PASSED = 400
# Of an index alone, until a page is full of what one job in 250 has.
SIEVED = 100_000


@pytest.fixture(scope="module")
def full_url(running_servers: Servers, template: str) -> Iterator[str]:
    """A database with a million jobs, filled once for this module."""
    with fresh_database(running_servers, template) as url:
        million.fill(url)
        yield url


@pytest.fixture
async def connection(full_url: str) -> AsyncIterator[Explained]:
    connection = await Explained.to(full_url)
    yield connection
    await connection.close()


def scans_nothing(plan: Plan) -> None:
    kinds = {node["Node Type"] for node in plan.nodes}
    assert not kinds & {"Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"}, kinds


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("name", ALONG)
async def test_a_list_with_one_filter_is_read_along_its_index(
    connection: Explained, name: str, *, depth: bool
) -> None:
    wanted = replace(list_cases.JOBS[name], most=MOST)
    found = await job_list_reads.places(
        connection, list_cases.at_depth(wanted) if depth else wanted
    )
    assert found
    for plan in connection.plans:
        scans_nothing(plan)
    plan = connection.plans[-1]
    assert any(ALONG[name] in index for index in plan.indexes), plan.indexes
    assert plan.rows(*TABLES) <= 4 * MOST + PASSED


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("name", sorted(list_cases.JOBS.keys() - ALONG.keys()))
async def test_a_list_with_more_filters_looks_at_what_one_of_them_leaves(
    connection: Explained, name: str, *, depth: bool
) -> None:
    wanted = replace(list_cases.JOBS[name], most=MOST)
    await job_list_reads.places(connection, list_cases.at_depth(wanted) if depth else wanted)
    for plan in connection.plans:
        scans_nothing(plan)
        assert plan.visited(*TABLES) <= 5 * FEW
        assert plan.rows(*TABLES) <= SIEVED


@pytest.mark.parametrize("depth", [False, True])
@pytest.mark.parametrize("name", list_cases.HISTORY)
async def test_history_is_read_along_the_index_of_ends(
    connection: Explained, name: str, *, depth: bool
) -> None:
    wanted = replace(list_cases.HISTORY[name], most=MOST)
    found = await history_reads.by_end(
        connection, list_cases.history_at_depth(wanted) if depth else wanted
    )
    assert found
    for plan in connection.plans:
        scans_nothing(plan)
    plan = connection.plans[-1]
    assert any("state_finished_at" in index for index in plan.indexes)
    if wanted.user is None and wanted.host is None:
        assert plan.rows(*TABLES) <= 2 * 7 * MOST + PASSED


async def test_the_jobs_of_a_page_are_found_by_their_keys(connection: Explained) -> None:
    [[first]] = await (await connection.cursor().execute("select min(id) from jobs")).fetchall()
    ids = list(range(first, first + 200))
    found = await job_reads.jobs_of(connection, ids, application_id=1)
    assert [job.job_id for job in found] == ids
    read, ended = connection.plans
    for plan in (read, ended):
        scans_nothing(plan)
    assert {"jobs_pkey", "schedules_run"} <= read.indexes
    assert read.rows("jobs") == 200
    assert ended.rows("executions") <= 200


async def test_the_history_of_a_job_is_found_by_its_key(connection: Explained) -> None:
    cursor = await connection.cursor().execute(
        "select id from jobs where recurrence is not null limit 1"
    )
    [[job_id]] = await cursor.fetchall()
    found = await history_reads.of_job(connection, job_id, after=None, most=MOST)
    assert len(found) == million.RUNS_OF_EACH
    [plan] = connection.plans
    scans_nothing(plan)
    assert not any(node["Node Type"] == "Sort" for node in plan.nodes)
    assert plan.rows("executions") == million.RUNS_OF_EACH
