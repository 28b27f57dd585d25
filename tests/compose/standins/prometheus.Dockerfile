# Stands in for the Prometheus image: Debian's server, the image's folder and its user, who has no name here either.
ARG DEBIAN
FROM ${DEBIAN}
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
WORKDIR /prometheus
VOLUME /prometheus
ENTRYPOINT ["/bin/prometheus"]
