# The demo worker: a small network on scikit-learn's digits, its hyperparameters set by the controller.
#   docker build -f deploy/worker.Dockerfile -t dcao/worker .
#
# torch comes from PyTorch's CPU index: the label +cpu makes sure that no CUDA build of several GB is taken. Where that
# index cannot be reached, put the wheel in a folder and hand it in as a build context (BuildKit with buildx), or as an
# image that holds it (any BuildKit); an empty TORCH_INDEX asks no index:
#   docker build --build-context wheels=/opt/wheels --build-arg TORCH_INDEX= …
#   docker build --build-arg WHEELS_IMAGE=my/wheels --build-arg TORCH_INDEX= …
# pip's own settings and certificates are build secrets: see controller.Dockerfile.
ARG PYTHON_IMAGE=python:3.11-slim
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_VERSION=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch first and alone: its 200 MB layer is built again only when its version changes, not with every edit.
RUN --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/dcao \
    && python -m pip --python /opt/dcao/bin/python install \
        --find-links /wheels ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} "torch==${TORCH_VERSION}+cpu"
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY proto proto
COPY server server
COPY client client
COPY experiments experiments
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/dcao/bin/python install -c constraints.txt '.[torch]' 'scikit-learn>=1.5'

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="dcao-worker" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 dcao \
    && useradd --system --uid 10001 --gid dcao --home-dir /data --shell /usr/sbin/nologin dcao \
    && install -d -o dcao -g dcao -m 1777 /data
COPY --from=build /opt/dcao /opt/dcao
ENV PATH=/opt/dcao/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
# The journal of an outage is written here: mount a volume, and nothing that was decided is lost with the container.
CMD ["python", "-m", "dcao_experiments.worker"]
