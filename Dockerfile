# docker build -t mrn_prep:0.1.0 .   How to run it: docs/containers.md
FROM python:3.11-slim-bookworm AS build

# A virtual environment sees neither the packages of the base image nor those in ~/.local, which
# Singularity binds. Wheels only, so that no compiler is needed; docopt, one file of Python, has none.
COPY pyproject.toml README.md LICENSE /src/
COPY mrn_prep /src/mrn_prep
COPY workflows /src/workflows
COPY bids_templates /src/bids_templates
RUN python -m venv --without-pip /opt/mrn_prep \
 && pip --python /opt/mrn_prep/bin/python install --no-cache-dir --no-compile \
        --only-binary :all: --no-binary docopt /src

# The libraries' own test suites: 130 MB before they are compiled, and no run reads them.
RUN find /opt/mrn_prep/lib -type d -name tests -prune -exec rm -r {} +

# Bytecode that stays valid when an image is packed, pulled or made into a SIF, which may change the
# times of files: on a read-only root, stale bytecode is compiled anew at every start.
RUN python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/mrn_prep/lib


FROM python:3.11-slim-bookworm

# the base image has no bytecode of the standard library
RUN python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|idlelib|lib2to3|tkinter|turtledemo|ensurepip|site-packages|dist-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

COPY --from=build /opt/mrn_prep /opt/mrn_prep

# Commands are found whatever PATH the container runtime sets, mount points are there for runtimes
# that cannot make them, and the label below cannot disagree with the program.
ARG VERSION=0.1.0
RUN ln -s /opt/mrn_prep/bin/mrn_prep /opt/mrn_prep/bin/mrn_prep-phantom /usr/local/bin/ \
 && mkdir /data /out && mkdir -m 1777 /work \
 && test "$(mrn_prep --version)" = "mrn_prep ${VERSION}"

ENV LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

ARG SOURCE=""
LABEL org.opencontainers.image.title="mrn_prep" \
      org.opencontainers.image.description="Quantitative MR neurography, from BIDS to nerve measurements" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}"

# process 1 ignores SIGTERM but takes an interrupt, so that `docker stop` ends a run in order
STOPSIGNAL SIGINT
ENTRYPOINT ["/opt/mrn_prep/bin/mrn_prep"]
