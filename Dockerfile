# The package and what it needs, for GKE, XPK and others: docs/machines/docker.md.
#   docker build --build-arg EXTRAS=tpu,hub -t IMAGE .
FROM python:3.12-slim

ARG EXTRAS=tpu,hub
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /lrl_jax

# What changes seldom comes first: a new recipe then costs seconds, not the download of JAX.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY lrl_jax ./lrl_jax
COPY configs ./configs
RUN pip install -c constraints.txt -e ".[${EXTRAS}]"
COPY . .

ENTRYPOINT []
CMD ["lrl", "--help"]
