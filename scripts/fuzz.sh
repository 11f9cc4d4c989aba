#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time (default 10s) and
# stops at the first failure.
#
#   scripts/fuzz.sh [DURATION]
set -euo pipefail
cd "$(dirname "$0")/.."

duration=${1:-10s}
count=0
while IFS=: read -r file target; do
	package=./$(dirname "$file")
	count=$((count + 1))
	printf '%s %s\n' "$package" "$target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$duration" -fuzzminimizetime 5x "$package" </dev/null
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
	xargs grep -o '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$count" -eq 0 ]; then
	echo "no fuzz targets found" >&2
	exit 1
fi
printf '%d fuzz targets, no failure\n' "$count"
