# HAProxy in front of the controllers: one address for workers, whichever replicas live.
ARG HAPROXY_IMAGE=haproxy:2.6
FROM ${HAPROXY_IMAGE}
COPY deploy/haproxy/haproxy.cfg /usr/local/etc/haproxy/haproxy.cfg
