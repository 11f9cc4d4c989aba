#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time (default 10s) and
# stops at the first failure.
#
#   scripts/fuzz.sh [DURATION]
set -euo pipefail
cd "$(dirname "$0")/.."

duration=${1:-10s}
count=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# fuzz runs one target. When the time is up in the middle of an input, the go
# command may report "context deadline exceeded" although nothing failed: a real
# failure names the input it has written.
fuzz() { # package target
	if go test -run '^$' -fuzz "^$2\$" -fuzztime "$duration" -fuzzminimizetime 5x "$1" </dev/null >"$output" 2>&1; then
		cat "$output"
		return
	fi
	cat "$output"
	grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input written' "$output"
}

while IFS=: read -r file target; do
	package=./$(dirname "$file")
	count=$((count + 1))
	printf '%s %s\n' "$package" "$target"
	fuzz "$package" "$target"
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
	xargs grep -o '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$count" -eq 0 ]; then
	echo "no fuzz targets found" >&2
	exit 1
fi
printf '%d fuzz targets, no failure\n' "$count"
