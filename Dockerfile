# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS packages

# Where torch and torchvision come from: the address of PyTorch's index of CPU builds keeps the image small.
# Empty takes them from pip's own index, which on x86_64 brings CUDA along (about 5 GB).
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

RUN python -m venv /venv
WORKDIR /build
COPY pyproject.toml constraints.txt README.md ./
RUN if [ -n "$TORCH_INDEX" ]; then \
        /venv/bin/pip install --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch torchvision; \
    fi
RUN /venv/bin/pip install --constraint constraints.txt .


FROM python:3.11-slim-bookworm

ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    AISLE_HOME=/var/lib/aisle

RUN useradd --uid 10001 --user-group --no-create-home --home-dir "$AISLE_HOME" aisle \
    && install --directory --owner aisle --group aisle "$AISLE_HOME"
COPY --from=packages /venv /venv
WORKDIR /app
COPY . .
RUN python -m compileall -q .

USER aisle
# The key only lets the settings load; nothing is signed with it.
RUN SECRET_KEY=collectstatic python manage.py collectstatic --no-input --verbosity 0

EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py"]
CMD ["gunicorn", "portal.wsgi", "--bind", "0.0.0.0:8000"]
