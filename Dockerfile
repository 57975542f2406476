# One image for every member; compose.yaml says which one a container runs.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The cache mounts keep crates and objects between builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin attain && cp target/release/attain /usr/local/bin/attain

FROM python:3.11-slim-bookworm AS model
COPY scripts/fetch_model.py scripts/fetch_model.requirements.txt /fetch/
RUN python3 /fetch/fetch_model.py --dir /model

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home attain \
    && mkdir -p /var/lib/attain && chown attain:attain /var/lib/attain
# What endpoints of webhooks, Prometheus and the catalogue are verified by.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/attain /usr/local/bin/attain
COPY --from=model /model /usr/share/attain/model
USER attain
WORKDIR /var/lib/attain
ENTRYPOINT ["attain"]
CMD ["--help"]
