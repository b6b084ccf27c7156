# subbyte on CPUs:  docker build -t subbyte .  and  docker run --rm -v "$PWD/runs:/work/runs" subbyte demo --force
FROM python:3.11-slim
WORKDIR /source
COPY constraints.txt pyproject.toml README.md LICENSE ./
# torch's own index has it without CUDA, which is several GB smaller
RUN pip install --no-cache-dir --constraint constraints.txt torch==2.13.0 \
        --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt '.[plots]'
RUN useradd --create-home subbyte && mkdir -p /work/runs && chown -R subbyte /work
USER subbyte
WORKDIR /work
ENTRYPOINT ["subbyte"]
CMD ["--help"]
