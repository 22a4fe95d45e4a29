# Stands in for prom/prometheus with Debian's Prometheus 2.42 and the busybox that image is built on: the image's paths, user, entry point and flags.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus busybox \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/fonts/*
RUN ln -s /bin/busybox /bin/wget && rm -rf /etc/prometheus/* && install -d -o nobody -g nogroup /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
