# Stands in for the Grafana image, of which Debian has none: its entry, user and folders. It serves nothing; it looks whether it is
# given what the real one reads.
ARG DEBIAN
FROM ${DEBIAN}
RUN mkdir -p /var/lib/grafana && chown 472:0 /var/lib/grafana
COPY grafana.sh /run.sh
VOLUME /var/lib/grafana
USER 472:0
ENTRYPOINT ["/run.sh"]
