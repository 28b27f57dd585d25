# Stands in for prom/statsd-exporter, of which Debian has no package: its options, its port, its reading of the mapping.
ARG DEBIAN
FROM ${DEBIAN}
COPY statsd_exporter.py /bin/statsd_exporter
ENTRYPOINT ["/usr/bin/python3", "/bin/statsd_exporter"]
