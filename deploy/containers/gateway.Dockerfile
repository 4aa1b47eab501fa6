# The Datomic gateway.
FROM maven:3-eclipse-temurin-21 AS build
WORKDIR /gateway
COPY . .
RUN ./build.sh

FROM eclipse-temurin:21-jre
RUN useradd --system --create-home --home-dir /var/lib/datomic datomic
COPY --from=build --chown=datomic /gateway /gateway
USER datomic
ENV EVALFLEET_GATEWAY_URI=datomic:local://gemini-eval
ENTRYPOINT ["/gateway/run.sh"]
CMD ["--host", "0.0.0.0", "--anywhere", "yes", "--port", "8701", \
     "--storage-dir", "/var/lib/datomic", "--token-file", "/run/secrets/evalfleet"]
