# The router as an image: `docker build -t inference-router .`, then
# `docker run --read-only --tmpfs /tmp -v $PWD/router.yaml:/etc/inference-router/router.yaml:ro inference-router`.
#
# The steps are tested without a container engine by tests/e2e/test_image.py.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/inference-router && python -m venv /opt/build
COPY requirements.lock requirements-dev.lock pyproject.toml README.md ./
# Each package by its hash, as a wheel: there is no compiler here. With PostgreSQL and Redis, which are extras.
ARG EXTRAS="asyncpg redis"
RUN locked() { awk -v names="$*" 'BEGIN { split(names, n, " "); for (i in n) want[n[i]] } /^[a-z0-9]/ { split($1, p, "=="); on = p[1] in want } on' requirements-dev.lock; } \
    && locked $EXTRAS > extras.lock && locked setuptools > build.lock
RUN /opt/inference-router/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes -r requirements.lock \
    && /opt/inference-router/bin/pip install --no-cache-dir --no-compile --only-binary :all: --no-deps --require-hashes -r extras.lock \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r build.lock
COPY router ./router
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/inference-router/bin/pip install --no-cache-dir --no-compile --no-deps --no-index wheels/*.whl \
    && /opt/inference-router/bin/pip uninstall --yes --quiet pip setuptools \
    && /opt/inference-router/bin/python -m compileall -q /opt/inference-router/lib

FROM python:3.11-slim-bookworm
COPY --from=build /opt/inference-router /opt/inference-router
# No name and no home: a number is enough, and Kubernetes can check by it that this is not root.
USER 10001:10001
ENV PATH=/opt/inference-router/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Where a mounted file says `dir: /var/lib/inference-router/ledger`, and nowhere else, something is written.
VOLUME /var/lib/inference-router
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/healthz', timeout=2)"]
ENTRYPOINT ["inference-router"]
CMD ["serve", "--config", "/etc/inference-router/router.yaml"]
