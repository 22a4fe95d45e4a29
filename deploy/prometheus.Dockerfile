# Prometheus with this project's scrape configuration, rules and alerts baked in: the same on every node of a cluster.
ARG PROMETHEUS_IMAGE=prom/prometheus:v2.55.1
FROM ${PROMETHEUS_IMAGE}
COPY deploy/prometheus/prometheus.yml /etc/prometheus/prometheus.yml
COPY deploy/prometheus/rules /etc/prometheus/rules
