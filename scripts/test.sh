#!/usr/bin/env bash
# Runs every test. Up to three that failed beside others are tried once more, alone: what fails again fails the run, and
# what passes then is named, since it depends on the load and has to be mended too.
set -uo pipefail
pytest=(.venv/bin/python -m pytest -q)
failed=.pytest_cache/v/cache/lastfailed

rm -f "$failed"
# All tests of a file run in one process, so that what they share is made once. Most of them wait for something most of
# their time: two for each of two cores.
"${pytest[@]}" -n 4 --dist loadscope --no-loadscope-reorder "$@"
result=$?
# 1 says that tests failed; all else is an error of another kind.
[ "$result" -eq 1 ] && [ -f "$failed" ] || exit "$result"
names=$(<"$failed")
count=$(grep -c ": true" <<<"$names")
if [ "$count" -gt 3 ]; then
    exit "$result"
fi
echo "test: $count failed; trying again, alone" >&2
"${pytest[@]}" --last-failed --last-failed-no-failures none "$@" || exit
echo "test: these failed beside others and passed alone, so they depend on the load; mend them:" >&2
sed -n 's/^ *"\(.*\)": true,*$/  \1/p' <<<"$names" >&2
