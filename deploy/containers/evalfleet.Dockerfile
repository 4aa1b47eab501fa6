# evalfleet's programs: worker, recorder, API and the command, in one image.
FROM rust:1-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --workspace --bins --exclude evalfleet-guest

FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends qemu-system-x86 util-linux e2fsprogs ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/evalfleet evalfleet
COPY --from=build /src/target/release/evalfleet /src/target/release/evalfleet-worker /src/target/release/evalfleet-jail \
    /src/target/release/evalfleet-recorder /src/target/release/evalfleet-api /usr/local/bin/
RUN install -d -o evalfleet /var/lib/evalfleet/blobs /var/lib/evalfleet/templates /var/lib/evalfleet/images
USER evalfleet
CMD ["evalfleet", "--help"]
