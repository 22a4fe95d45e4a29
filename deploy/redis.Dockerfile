# Redis with the durability this project relies on, its password read from a secret's file when it starts.
ARG REDIS_IMAGE=redis:7
FROM ${REDIS_IMAGE}
COPY deploy/redis/redis.conf /usr/local/etc/redis/redis.conf
COPY deploy/redis/start.sh /usr/local/bin/dcao-redis
# By name: the number of its group differs between the variants of the image.
USER redis
ENTRYPOINT ["sh", "/usr/local/bin/dcao-redis"]
CMD []
