# docker build -t pyknock .            everything is built in here (needs the network)
# cross/image ARCH                     the same image from a file that cross/build made before
FROM --platform=$BUILDPLATFORM swift:6.3-bookworm AS build
ARG TARGETARCH SOURCE_DATE_EPOCH=0
WORKDIR /pyknock
COPY . .
RUN cross/build $TARGETARCH && cross/install /image $TARGETARCH

FROM scratch
COPY --from=build /image /
# Nobody. The port is above 1023, so no capability is needed either.
USER 65534:65534
EXPOSE 60120/udp
ENTRYPOINT ["/pyknock"]
