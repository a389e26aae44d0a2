#!/usr/bin/env bash
# Installs MariaDB's programs for the tests of the transactional store, unless they are there. It starts no server.
set -euo pipefail

packages=(mariadb-server-core mariadb-client-core)
export PATH="$PATH:/usr/sbin"

command -v mariadbd > /dev/null && command -v mariadb-install-db > /dev/null && exit 0

fail() {
    printf 'mariadb: %s\n' "$@" "Install it by hand, on Debian: sudo apt-get install ${packages[*]}" >&2
    exit 1
}

command -v apt-get > /dev/null || fail "the tests of the transactional store need MariaDB, and apt-get is not here."
run=(env DEBIAN_FRONTEND=noninteractive apt-get -qq)
if [ "$(id -u)" != 0 ]; then
    sudo -n true 2> /dev/null || fail "the tests of the transactional store need MariaDB, and this user may not install it."
    run=(sudo -n "${run[@]}")
fi
echo "mariadb: installing ${packages[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{ "${run[@]}" update && "${run[@]}" install --yes --no-install-recommends "${packages[@]}"; } > "$log" 2>&1 \
    || fail "apt-get said:" "$(tail -n 8 "$log")"
