FROM python:3.12-slim

WORKDIR /app/env
COPY . /app/env
RUN pip install --no-cache-dir "openenv==0.10.0" "@REQUIREMENT@"

# Hubs run containers as user 1000, who needs a folder to download models to.
RUN useradd --uid 1000 --create-home --home-dir /app/home server
USER server
# glibc keeps freed memory in one heap per thread, and a thread per session is many.
ENV PYTHONPATH=/app/env HF_HOME=/app/home/huggingface MALLOC_ARENA_MAX=2
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"

# One worker: all sessions share the passes of one process.
CMD ["uvicorn", "server.app:app", "--host", "0.0.0.0", "--port", "8000", "--ws-max-size", "1048576"]
