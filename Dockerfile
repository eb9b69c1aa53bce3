# hive in a container; see docs/docker.md. `make image` builds the binaries and this.
# They are static, so nothing is pulled: there is no shell in it, no libc, no /etc.

# An empty directory, for its owner. Nothing else makes one where no program can run.
FROM scratch AS empty
WORKDIR /empty

FROM scratch

COPY bin/hive bin/hivectl /

# Nobody in particular: there are no names in here. For entries with `user` hive must be
# root, with some capabilities: docs/docker.md.
ARG OWNER=65532:65532

# What hive knows; a new volume gets the owner of this directory. Those above it are made
# before, by root. The variable is for hivectl, too, whoever the user is.
WORKDIR /var/lib
COPY --from=empty --chown=${OWNER} /empty /var/lib/hive
WORKDIR /
USER ${OWNER}
ENV HIVE_DATA_DIR=/var/lib/hive
VOLUME /var/lib/hive

# The API asks for a token, which is made at the first start: /var/lib/hive/token.
ENV HIVE_LISTEN=0.0.0.0:7835
EXPOSE 7835

STOPSIGNAL SIGTERM

# hivectl takes the token from the volume. Recovery takes 15 s at most; a migration
# of a large file may take longer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/hivectl", "-q", "status"]

ENTRYPOINT ["/hive"]
