# docker build -t slm . && docker run --gpus all -v "$PWD":/slm slm
FROM python:3.12-slim

# DVC needs git; torch.compile needs a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /slm
COPY requirements.txt pyproject.toml README.md LICENSE ./
COPY requirements requirements
COPY slm slm
COPY storygrammar storygrammar
RUN pip install --no-cache-dir -r requirements.txt

# The mounted checkout belongs to another user.
RUN git config --system --add safe.directory /slm
CMD ["dvc", "repro"]
