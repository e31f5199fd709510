#!/bin/sh
# Serve the champion on a one-node Ray cluster in this container. Ray is started apart from `serve run`
# because only so do its dashboard and its metrics listen where Prometheus can reach them.
set -eu
ray start --head --dashboard-host=0.0.0.0 --metrics-export-port=8080 \
    --object-store-memory=536870912 --disable-usage-stats
exec serve run --address=auto "${1:-ray_app:graph}"
