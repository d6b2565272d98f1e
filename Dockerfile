# syntax=docker/dockerfile:1
# One static binary on an empty image. Build: docker build -t usher .
# Run read-only: docker run --read-only -e USHER_ADMIN_URL -e USHER_TOKEN usher sidecar
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags='-s -w' -o /out/usher ./cmd/usher

FROM scratch
# To trust the servers that it calls over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/usher /usher
# Admin; the sidecar listens on 8181 and is asked there: HEALTHCHECK of the run
# overrides this one, e.g. --health-cmd '/usher health http://127.0.0.1:8181'.
EXPOSE 8080 8181
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usher", "health"]
ENTRYPOINT ["/usher"]
