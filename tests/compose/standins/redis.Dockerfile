# Stands in for the Redis image: Debian's server, the image's user and folder.
ARG DEBIAN
FROM ${DEBIAN}
RUN mkdir -p /data && chown redis:redis /data
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
