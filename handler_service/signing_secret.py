"""`/applications/{id}/signing-secret`: read it, rotate it. Nothing else ever tells it."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import Integer, bindparam, case, func, select

from handler_service import answers, bodies
from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.paths import ApplicationId
from handler_service.problems import ApplicationNotFound
from handler_service.schemas import instants
from handler_service.schemas.signing_secret import RotationIn, SigningSecretOut, write_secret
from shared.database import Read
from shared.runs.model import applications

_overlaps = applications.c.previous_secret_until > func.now()
_SECRETS = Read(
    select(
        applications.c.signing_secret,
        case((_overlaps, applications.c.previous_signing_secret)),
        case((_overlaps, applications.c.previous_secret_until)),
    ).where(applications.c.id == bindparam("application_id", type_=Integer))
)
# Asked again with the secret that signs already, it changes nothing: a caller who never saw our
# answer may ask again and does not lose the one before.
_ROTATE = b"""
update applications
set
    previous_signing_secret = case when %(overlap)s > 0 then signing_secret end,
    previous_secret_until = case
        when %(overlap)s > 0 then now() + %(overlap)s * interval '1 second'
    end,
    signing_secret = %(secret)s,
    updated_at = now()
where id = %(application_id)s and signing_secret <> %(secret)s
"""

NOT_FOUND = ApplicationNotFound(17)
NOT_KEPT = header("Cache-Control", "Caches must not keep it.", "no-store")

router = APIRouter(tags=["applications"])


@router.get(
    "/applications/{application_id:id}/signing-secret",
    response_model=SigningSecretOut,
    summary="Read the signing secret",
    operation_id="getSigningSecret",
    response_description="The secret, and the one before while both sign",
    responses=problems(NOT_FOUND, 503) | {200: {"headers": NOT_KEPT}},
)
async def get_signing_secret(request: Request, application_id: ApplicationId) -> Response:
    """Read what this application's deliveries are signed with, for receivers to check them by."""
    context = Context.of(request)
    _expect_ours(context, application_id)
    return await _answer(context)


@router.post(
    "/applications/{application_id:id}/signing-secret/rotate",
    response_model=SigningSecretOut,
    summary="Rotate the signing secret",
    operation_id="rotateSigningSecret",
    openapi_extra=json_body(RotationIn),
    response_description="The new secret, and the one before while both sign",
    responses=problems(400, NOT_FOUND, 413, 415, 422, 503) | {200: {"headers": NOT_KEPT}},
)
async def rotate_signing_secret(request: Request, application_id: ApplicationId) -> Response:
    """Sign with another secret from now on; for the overlap, with the present one too.

    Receivers learn the new one meanwhile. There is only one secret before the present: rotating
    again within the overlap drops the older of the two at once, and what still checks by it refuses
    our calls. To rotate to the secret that signs already changes nothing.
    """
    context = Context.of(request)
    _expect_ours(context, application_id)
    wanted = await bodies.read(request, RotationIn, bytes_max=ENVELOPE_BYTES_MAX)
    values = {
        "application_id": application_id,
        "overlap": wanted.overlap,
        "secret": wanted.secret,
    }
    async with context.pool.connection() as connection:
        await connection.execute(_ROTATE, values)
    return await _answer(context)


def _expect_ours(context: Context, application_id: int) -> None:
    if application_id != context.application_id:
        raise ApplicationNotFound(application_id)


async def _answer(context: Context) -> Response:
    row = await _SECRETS.row(context.pool, application_id=context.application_id)
    if row is None:
        raise ApplicationNotFound(context.application_id)
    secret, previous, until = row
    body = {
        "secret": write_secret(secret),
        "previous": previous
        and {
            "secret": write_secret(previous),
            "until": instants.write_instant(instants.microseconds(until)),
        },
    }
    return answers.json(body, headers={"cache-control": "no-store"})
