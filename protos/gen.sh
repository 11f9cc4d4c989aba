#!/usr/bin/env bash
# Generates the Go code of every .proto file here. Needs protoc; the Go plugins
# are taken from the module's tool versions (see Makefile).
set -euo pipefail
cd "$(dirname "$0")"
for d in admin kafka peerid ledgerstore; do
  (cd .. && protoc -I protos -I protos/include --go_out=. --go_opt=module=github.com/heddle-ledger/heddle \
    --go-grpc_out=. --go-grpc_opt=module=github.com/heddle-ledger/heddle "protos/$d/$d.proto")
done
