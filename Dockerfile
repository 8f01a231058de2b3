# One image for the handler, the executors and the migrations: they differ by command only.
# It runs without root, on a read-only root file system, and holds neither pip nor a compiler.
# (--target demo makes another, with the receiver that shows webhooks: see docker-compose.yml.)

FROM python:3.12-slim AS builder

# The environment carries no pip of its own: nothing is ever installed into a running container.
RUN python -m venv --without-pip /opt/onthedot

# Wheels only, each checked against its hash: no package's build script runs, no compiler is needed.
# A network with a package index of its own is told so by a secret, which no layer keeps:
#   docker build --secret id=pip_conf,src=$HOME/.config/pip/pip.conf .
# (docker compose finds the layer that this made, and does not ask again.)
COPY locks/server.txt /tmp/server.txt
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false \
    python -m pip --python /opt/onthedot/bin/python install --no-cache-dir \
        --quiet --disable-pip-version-check --root-user-action=ignore \
        --only-binary=:all: --require-hashes -r /tmp/server.txt

# Compiled here, because nothing can be written where it runs. The sources never change beside their
# bytecode, so its validity is not looked up again at each start.
WORKDIR /app
COPY shared shared
COPY migrations migrations
COPY handler_service handler_service
COPY executor_service executor_service
RUN python -m compileall -q --invalidation-mode unchecked-hash /app


FROM python:3.12-slim AS server

LABEL org.opencontainers.image.title="onthedot" \
      org.opencontainers.image.description="Calls a URL at the right moment, once: a self-hosted webhook scheduler on Postgres and Redis" \
      org.opencontainers.image.licenses="Apache-2.0"

# Nothing is installed where it runs: neither by us, nor by who should not be in there.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip && \
    rm -rf /usr/local/lib/python3.12/ensurepip

# Inside a container every interface is the container's own; who may connect is decided by the
# ports that are published.
ENV PATH=/opt/onthedot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    HEALTH_HOST=0.0.0.0

COPY --from=builder /opt/onthedot /opt/onthedot
COPY --from=builder /app /app
WORKDIR /app

# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 10001:10001

# The API of the handler; health and metrics of the executor.
EXPOSE 8080 8081

# Of a migration it says nothing. Each probe costs less than 50 ms of CPU; -I and -S keep the variables,
# the directory and the packages of the service out of it.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "/app/shared/probe.py"]

# The exec form makes Python the first process: SIGTERM reaches it, and an executor drains.
# The other commands: python -m executor_service, python -m migrations.
CMD ["python", "-m", "handler_service"]


# The receiver of `make receiver`, for those who try it with Docker.
FROM server AS demo
COPY local_stack local_stack
CMD ["python", "-m", "local_stack.receiver"]


# What is built unless a target is named.
FROM server
