# Stands in for haproxy:2.6 with Debian's HAProxy 2.6: the image's user 99, configuration path and command.
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends haproxy \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* \
    && userdel haproxy && groupadd -r -g 99 haproxy && useradd -r -u 99 -g 99 -d /var/lib/haproxy haproxy \
    && install -d /usr/local/etc/haproxy && ln -s /usr/sbin/haproxy /usr/local/sbin/haproxy
USER haproxy
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
