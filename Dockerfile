# The gateway in an image of its own: one binary, no shell needed to run it, not root.
FROM rust:1-slim-bookworm AS build
# The compiler that SQLite and the TLS library are built with; the slim image does not promise one.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin tollgate && cp target/release/tollgate /tollgate

FROM debian:bookworm-slim
# The directories exist and are the user's before a volume is mounted over them: a new volume takes their owner.
RUN useradd --system --uid 10001 --no-create-home tollgate \
    && install -d -o tollgate -g tollgate -m 0700 /var/lib/tollgate /etc/tollgate
COPY --from=build /tollgate /usr/local/bin/tollgate
USER tollgate
WORKDIR /var/lib/tollgate
# The database, and beside it the master key without which the database's secrets stay shut. Back up both.
VOLUME /var/lib/tollgate
ENV TOLLGATE_LISTEN=0.0.0.0:8080 \
    TOLLGATE_DATABASE_URL=sqlite:/var/lib/tollgate/tollgate.db
EXPOSE 8080
# Alive, not ready: a gateway that drains its streams must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --start-interval=1s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["tollgate"]
CMD ["serve"]
