#!/usr/bin/env bash
# Builds the images heddle-peer, heddle-orderer and heddle-tools.
#
#   docker/build.sh          TAG=x: another tag than the version
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v docker >/dev/null; then
	echo "make docker: the docker command is not installed" >&2
	exit 1
fi
if ! reason=$(docker version --format '{{.Server.Version}}' 2>&1); then
	echo "make docker: no Docker engine answers; start one or set DOCKER_HOST ($reason)" >&2
	exit 1
fi
version=$(sed -n 's/^const Heddle = "\(.*\)"$/\1/p' internal/version/version.go)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo "development build")
for target in peer orderer tools; do
	docker build -f docker/Dockerfile --target "$target" --build-arg "COMMIT=$commit" \
		-t "heddle-$target:${TAG:-$version}" .
done
