# hive in a container; see docs/docker.md. `make image` builds the binaries and this.
# They are static, so nothing is pulled: there is no shell in it, no libc, no /etc.
FROM scratch

COPY bin/hive bin/hivectl /

# The API asks for a token, which is made at the first start: /var/lib/hive/token.
ENV HIVE_LISTEN=0.0.0.0:7835
EXPOSE 7835

# What hive knows. Named for hivectl too, whoever the user is.
ENV HIVE_DATA_DIR=/var/lib/hive
VOLUME /var/lib/hive

STOPSIGNAL SIGTERM

# hivectl takes the token from the volume. Recovery takes 15 s at most; a migration
# of a large file may take longer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/hivectl", "-q", "status"]

ENTRYPOINT ["/hive"]
