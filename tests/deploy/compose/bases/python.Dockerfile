# Stands in for python:3.11-slim where no registry is reached: the same interpreter line, `python` and
# `pip` on /usr/local/bin. Debian's pip refuses to touch the system's packages, which a venv never does.
FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip python3-venv ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* \
    && ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/python3 /usr/local/bin/python3
CMD ["python3"]
