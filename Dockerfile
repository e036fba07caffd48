# The image of operator, HTTP service and workers. RUNTIME_IMAGE can be any image with Node.js 24; it needs no shell and no package manager.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
# no install scripts: the build needs none, because the bundler's program is in a package of its own
RUN npm ci --ignore-scripts
COPY build build
COPY crds crds
COPY src src
RUN node build/bundle.ts dist
RUN npm sbom --sbom-format cyclonedx --sbom-type application --package-lock-only --omit dev > dist/sbom.cdx.json

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fhir-export" \
      org.opencontainers.image.description="Kubernetes operator that exports FHIR R4 data in bulk from any FHIR server that can search" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/dist /app
COPY LICENSE /app/LICENSE
ENV PATH=/nodejs/bin:/usr/local/bin:/usr/bin:/bin \
    NODE_ENV=production
WORKDIR /app
USER 65532:65532
# the flag must be that of nodeFlags in src/node-flags.ts, which says why
ENTRYPOINT ["node", "--initial-heap-size=48", "lib/bundle/main.mjs"]
CMD ["--help"]
