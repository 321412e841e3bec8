# docker build -t pyknock .   builds everything in here (needs the network)
# cross/image ARCH            makes the same image from a file of cross/build
FROM --platform=$BUILDPLATFORM swift:6.3-bookworm AS build
ARG TARGETARCH SOURCE_DATE_EPOCH=0
WORKDIR /pyknock
COPY . .
RUN cross/build $TARGETARCH && cross/install /image $TARGETARCH

FROM scratch
COPY --from=build /image /
# This is the user nobody. The port is above 1023, so the server needs no capability.
USER 65534:65534
EXPOSE 60120/udp
ENTRYPOINT ["/pyknock"]
