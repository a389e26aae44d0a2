#!/usr/bin/env bash
# Installs programs that tests talk to from Debian's packages, unless they are there: `program.sh mariadb mosquitto chromium`.
# None of them runs afterwards: where a package starts a service of the machine, that is ended. Tests start their own.
set -euo pipefail
export PATH="$PATH:/usr/sbin"

fail() {
    printf '%s: %s\n' "$name" "$1" >&2
    printf '%s\n' "${@:2}" "Install it by hand, on Debian: sudo apt-get install ${packages[*]}" >&2
    exit 1
}

for name in "$@"; do
    case $name in
        chromium) programs=(chromium) packages=(chromium) use="the tests of the live page need Chromium" ;;
        mariadb) programs=(mariadbd mariadb-install-db) packages=(mariadb-server-core mariadb-client-core) \
            use="the tests of the transactional store need MariaDB" ;;
        mosquitto) programs=(mosquitto) packages=(mosquitto) use="the tests of the MQTT bridge need Mosquitto" ;;
        *) echo "program.sh: '$name' is none of chromium, mariadb, mosquitto; nothing more was installed." >&2; exit 2 ;;
    esac
    [ "$(command -v "${programs[@]}" | wc -l)" = "${#programs[@]}" ] && continue

    command -v apt-get > /dev/null || fail "$use, and apt-get is not here."
    as=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2> /dev/null || fail "$use, and this user may not install it."
        as=(sudo -n)
    fi
    run=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq)
    echo "$name: installing ${packages[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    { "${run[@]}" update && "${run[@]}" install --yes --no-install-recommends "${packages[@]}"; } > "$log" 2>&1 \
        || fail "apt-get said:" "$(tail -n 8 "$log")"
    if [ "$name" = mosquitto ] && [ -d /run/systemd/system ]; then
        "${as[@]}" systemctl disable --now mosquitto >> "$log" 2>&1 || true
    fi
    rm -f "$log"
done
