# One binary that runs without a shell and not as root.
FROM rust:1-slim-bookworm AS build
# SQLite and the TLS library need a C compiler, which the slim image need not have.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin tollgate && cp target/release/tollgate /tollgate

FROM debian:bookworm-slim
# A new volume takes the owner of the directory that it is mounted over.
RUN useradd --system --uid 10001 --no-create-home tollgate \
    && install -d -o tollgate -g tollgate -m 0700 /var/lib/tollgate /etc/tollgate
COPY --from=build /tollgate /usr/local/bin/tollgate
USER tollgate
WORKDIR /var/lib/tollgate
# The database, and the master key that opens its secrets. Back up both.
VOLUME /var/lib/tollgate
ENV TOLLGATE_LISTEN=0.0.0.0:8080 \
    TOLLGATE_DATABASE_URL=sqlite:/var/lib/tollgate/tollgate.db
EXPOSE 8080
# Liveness, not readiness: a gateway that drains open streams must not be restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --start-interval=1s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["tollgate"]
CMD ["serve"]
