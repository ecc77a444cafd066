# The service as one image: docker build -t sam3 .          (docs/operate.md has the build arguments)
#
# Every stage starts from one small base, and each of the four parts of the result comes from a stage of its own, so
# that a change of the code sends a layer of some megabytes and not torch again:
#   /opt/torch  torch and its CUDA libraries    TORCH_VERSION, TORCH_INDEX_URL, requirements/torch.txt
#   /opt/model  a checkpoint, if one is baked   BAKE_MODEL, BAKE_REVISION, --secret id=hf_token
#   /opt/venv   all other packages              requirements/service.txt, SAM3_REF
#   /app        the service, with its embedded checkpoint

# Cloud Run's L4 has driver 535, which runs CUDA 12 only. .../cu130 is the flavour for RTX PRO 6000, .../cpu for none.
# Empty: wherever pip looks.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cu126
ARG TORCH_VERSION=2.13.0

FROM debian:bookworm-slim AS python
# Debian's mirrors keep one version of a package, the one with the latest security fixes: nothing to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*

FROM python AS pip
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip stays here: it fills environments that have none.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

FROM pip AS torch
ARG TORCH_INDEX_URL
ARG TORCH_VERSION
COPY requirements/torch.txt /requirements/
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/torch \
    && pip --python /opt/torch/bin/python install --require-hashes --requirement /requirements/torch.txt \
    && pip --python /opt/torch/bin/python install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "torch==$TORCH_VERSION"

FROM torch AS dependencies
COPY requirements/service.txt /requirements/
# The environment sees torch's packages behind its own: what is there already is not installed twice. Compiled, the
# hundreds of models of transformers are a tenth of the image; SAM 3 imports these.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/venv \
    && echo /opt/torch/lib/python3.11/site-packages >/opt/venv/lib/python3.11/site-packages/torch.pth \
    && pip --python /opt/venv/bin/python install --no-compile --only-binary :all: --require-hashes \
    --requirement /requirements/service.txt \
    && python3 -m compileall -q -x 'tests/|transformers/models/(?!(auto|clip|encoder_decoder|sam3)/)' /opt/venv/lib
# A commit or tag of Meta's own code, which is under the SAM License; for SAM3_ENGINE=sam3.
ARG SAM3_REF=
ARG TORCH_INDEX_URL
ARG TORCH_VERSION
COPY requirements/official.txt /requirements/
# One release of torchvision fits torch, and a CUDA build of torch has its triton with it: there is nothing to pin.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ -n "$SAM3_REF" ]; then \
    pip --python /opt/venv/bin/python install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} \
    "torch==$TORCH_VERSION" torchvision triton \
    && pip --python /opt/venv/bin/python install --no-deps --require-hashes --requirement /requirements/official.txt \
    && pip --python /opt/venv/bin/python install --no-deps "sam3 @ https://github.com/facebookresearch/sam3/archive/$SAM3_REF.tar.gz" \
    ; fi

FROM python AS app
COPY service /app/service
# Compiled here, as the file system is read-only there. The sources cannot change, so their times need no check.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM dependencies AS hub
# A repository of the hub, or `embedded`; empty bakes nothing.
ARG BAKE_MODEL=
ARG BAKE_REVISION=main
RUN --mount=type=secret,id=hf_token \
    mkdir /hub \
    && if [ -n "$BAKE_MODEL" ] && [ "$BAKE_MODEL" != embedded ]; then \
    if [ -s /run/secrets/hf_token ]; then HF_TOKEN=$(cat /run/secrets/hf_token) && export HF_TOKEN; fi \
    && /opt/venv/bin/hf download "$BAKE_MODEL" --revision "$BAKE_REVISION" --local-dir /hub \
    --include '*.json' --include '*.safetensors' --include merges.txt --include vocab.json \
    ; fi

FROM hub AS model
ARG BAKE_MODEL
COPY --from=app /app /app
COPY tools /app/tools
WORKDIR /app
# In bfloat16, as a GPU runs it: half the bytes to store and to load.
RUN mkdir /opt/model \
    && if [ "$BAKE_MODEL" = embedded ]; then source=embedded; else source=/hub; fi \
    && if [ -n "$BAKE_MODEL" ]; then /opt/venv/bin/python -m tools.cli model save "$source" /opt/model; fi

FROM python AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sam3
COPY --from=torch /opt/torch /opt/torch
COPY --from=model /opt/model /opt/model
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=app /app /app
ARG BAKE_MODEL=
# An empty variable counts as unset.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    SAM3_MODEL=${BAKE_MODEL:+/opt/model}
WORKDIR /app
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# For plain docker: Cloud Run and Kubernetes have probes of their own and do not look at this one.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f'http://127.0.0.1:{os.environ.get(\"PORT\") or 8080}/health')"]
# `python -m service` becomes gunicorn, by exec: signals reach it, and service/__main__.py has its arguments.
CMD ["python", "-m", "service"]

FROM pip AS test-tools
COPY --from=torch /opt/torch /opt/torch
COPY --from=dependencies /opt/venv /opt/venv
COPY requirements/test.txt /requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-compile --require-hashes --requirement /requirements/test.txt

# The same image with the tests in it: docker run --rm --read-only --tmpfs /tmp IMAGE
FROM runtime AS test
COPY --from=test-tools /opt/venv /opt/venv
COPY tools /app/tools
COPY tests /app/tests
COPY docs /app/docs
COPY pyproject.toml README.md Makefile /app/
ENV HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
CMD ["sh", "-c", "python -m pytest -p no:cacheprovider tests/core tests/engine tests/worker && python -m tools.cli image check --here --out /tmp/out"]

# What is built when no target is named.
FROM runtime
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="sam3-service" \
      org.opencontainers.image.description="SAM 3 as an event-driven worker on Google Cloud Run" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
