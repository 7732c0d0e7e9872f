# The images of drift-agent: one static program, no shell, no root user.
#
#   docker build --tag drift-agent:0.1.0 .                            observes; may not step the clock
#   docker build --tag drift-agent:0.1.0-step --target step .         may, where the pod is given CAP_SYS_TIME
#   docker build --platform linux/arm64 …                             for arm64, from a machine of either kind
#
# Needs BuildKit, which is Docker's default, or buildah (an old one also --build-arg BUILDPLATFORM=linux/amd64). Pin the
# builder by digest where builds must be repeatable: --build-arg BUILDER=rust@sha256:…
ARG BUILDER=rust:1-bookworm

# On this machine's own architecture: a compiler for the other one is faster than one that is emulated.
FROM --platform=$BUILDPLATFORM ${BUILDER} AS dependencies
WORKDIR /src
ARG TARGETARCH
# What the builder lacks is fetched: nothing for its own architecture. Build scripts and macros are built as usual; static
# is the program only. Packed relocations take 0.4 MB less (on amd64; other linkers leave them as they are), and equal
# functions that are kept once 0.1 MB, where the linker can do it: the one that Rust brings for amd64 can, and is used
# where no other is named.
RUN case "$TARGETARCH" in \
      amd64) cpu=x86_64 package=gcc-x86-64-linux-gnu ;; \
      arm64) cpu=aarch64 package=gcc-aarch64-linux-gnu ;; \
      *) echo "TARGETARCH is \"$TARGETARCH\": amd64 or arm64" >&2 && exit 1 ;; \
    esac \
 && linker="linker = \"$cpu-linux-gnu-gcc\"" fold='' \
 && if [ "$cpu" = "$(uname -m)" ]; then \
      linker=''; \
      if echo 'fn main() {}' | rustc -Clink-arg=-Wl,--icf=all -o /tmp/folded - 2> /dev/null; then fold=',--icf=all'; fi; \
    fi \
 && mkdir .cargo \
 && printf '[build]\ntarget = "%s"\n[target.%s]\n%s\nrustflags = [%s]\n' \
      "$cpu-unknown-linux-gnu" "$cpu-unknown-linux-gnu" "$linker" \
      '"-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,-z,pack-relative-relocs'"$fold"'"' > .cargo/config.toml \
 && if ! [ -d "$(rustc --print target-libdir --target "$cpu-unknown-linux-gnu")" ]; then \
      rustup target add "$cpu-unknown-linux-gnu"; \
    fi \
 && if ! command -v "$cpu-linux-gnu-gcc"; then \
      apt-get update && apt-get install --yes --no-install-recommends "$package" "libc6-dev-$TARGETARCH-cross"; \
    fi

# The dependencies alone, in a layer that stays until they change.
COPY Cargo.toml Cargo.lock ./
# Cargo.toml names them, so cargo wants them there; they are not built.
COPY benches/*.rs benches/
COPY crates/drift-core/Cargo.toml crates/drift-core/
COPY crates/clock-drift/Cargo.toml crates/clock-drift/
RUN mkdir src crates/drift-core/src crates/clock-drift/src \
 && echo 'fn main() {}' | tee src/main.rs > crates/clock-drift/src/main.rs \
 && touch src/lib.rs crates/drift-core/src/lib.rs crates/clock-drift/src/lib.rs \
 && cargo build --release --locked

FROM dependencies AS build
COPY crates crates
COPY src src
# Shown in the log and in build_info.
ARG REVISION=unknown
RUN touch src/*.rs crates/*/src/*.rs \
 && DRIFT_AGENT_REVISION="$REVISION" cargo build --release --locked \
 && install -D target/*/release/drift-agent /out/drift-agent

# With the one capability that steps a clock: user 65532 gets it where the pod may have it. Elsewhere this file cannot
# be started, so it is not the default.
FROM build AS capable
RUN if ! command -v setcap; then \
      apt-get update && apt-get install --yes --no-install-recommends libcap2-bin; \
    fi \
 && setcap cap_sys_time+ep /out/drift-agent

FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="drift-agent" \
      org.opencontainers.image.description="Measures a Kubernetes node's clock against two NTP pools and shows the offset" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 65532:65532
EXPOSE 10123
ENTRYPOINT ["/drift-agent"]
CMD ["run"]

FROM base AS step
COPY --from=capable /out/drift-agent /drift-agent

FROM base
COPY --from=build /out/drift-agent /drift-agent
