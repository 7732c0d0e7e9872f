# The image of drift-agent: one static program, no shell, nobody's root.
#
#   docker build -t drift-agent .                              for this machine's architecture
#   docker build --platform linux/arm64 -t drift-agent .       for another; amd64 and arm64 are the ones in use
#
# Pin the builder by digest where builds must be repeatable: --build-arg BUILDER=rust@sha256:…
ARG BUILDER=rust:1-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
# Static for the program only: with a target named, build scripts and macros are built as usual.
ENV RUSTFLAGS="-C target-feature=+crt-static"

# The dependencies alone, in a layer that stays until they change.
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names them, so cargo wants them there; they are not built.
COPY benches benches
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
 && cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')"

COPY src src
# Shown in the log and in build_info.
ARG REVISION=unknown
RUN touch src/main.rs src/lib.rs \
 && DRIFT_AGENT_REVISION="$REVISION" cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')" \
 && install -D target/*/release/drift-agent /out/drift-agent

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="drift-agent" \
      org.opencontainers.image.description="Measures a Kubernetes node's clock against two NTP pools and shows the offset" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/drift-agent /drift-agent
USER 65532:65532
EXPOSE 10123
ENTRYPOINT ["/drift-agent"]
CMD ["run"]
