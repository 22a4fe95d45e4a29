# The controller: FastAPI and Redis, no torch. Built from the repository's root:
#   docker build -f deploy/controller.Dockerfile -t dcao/controller .
#
# Behind a proxy that signs its own certificates, or with a package mirror, hand pip its settings as build secrets;
# they are mounted for the one command that needs them and leave nothing in a layer:
#   docker build --secret id=pip_conf,src=$HOME/.config/pip/pip.conf --secret id=ca,src=/path/ca.crt …
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY server server
COPY client client
COPY experiments experiments
# pip stays outside the environment that is copied on: the final image can run the controller and install nothing.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/dcao \
    && python -m pip --python /opt/dcao/bin/python install -c constraints.txt '.[server]'

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="dcao-controller" \
      org.opencontainers.image.licenses="Apache-2.0"
# /data is open to every user of the image, as /tmp is: an engine may run it as whichever it likes (OpenShift does,
# `docker run --user` too), and there is no other user in the container to keep out.
# 10001: above every system account, the same number that the Kubernetes manifests ask for.
RUN groupadd --system --gid 10001 dcao \
    && useradd --system --uid 10001 --gid dcao --home-dir /data --shell /usr/sbin/nologin dcao \
    && install -d -o dcao -g dcao -m 1777 /data
COPY --from=build /opt/dcao /opt/dcao
ENV PATH=/opt/dcao/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DCAO_HOST=0.0.0.0 \
    DCAO_PORT=8080 \
    DCAO_DATA=/data
USER 10001:10001
WORKDIR /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s --retries=3 \
    CMD ["python", "-m", "dcao_server.healthcheck"]
CMD ["dcao-controller"]
