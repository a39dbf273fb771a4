#!/usr/bin/env bash
# Run the suite on a CPython that this machine does not have: tools/newer.sh 3.14 [make arguments]
#
# Unpacks a small Debian with that Python under build/ and runs `make test` inside it. Needs root,
# debootstrap and a network; without them it says so and ends well, since nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?which version, such as 3.14}
shift

if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
  echo "Python $version: not run: needs root and debootstrap"
  exit 0
fi

system=build/debian-$version
if [ ! -x "$system/usr/bin/python$version" ]; then
  rm -rf "$system"
  echo "unpacking a Debian with Python $version ..."
  # The mirror that this machine uses itself.
  sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
  mirror=$(grep -oE 'https?://[^ ]+/debian/?( |$)' <<<"$sources" | head -n 1)
  packages=python$version,python$version-dev,python$version-venv,gcc,libc6-dev,make,ca-certificates
  if ! debootstrap --no-check-gpg --variant=minbase --include="$packages" \
    forky "$system" "$mirror" sid >"build/debian-$version.log" 2>&1; then
    rm -rf "$system"
    echo "Python $version: not run: could not be unpacked, see build/debian-$version.log"
    exit 0
  fi
fi

# What the machine needs to reach its package index, and the tree without what was built from it.
for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  if [ -e "$file" ]; then cp -L "$file" "$system$file"; fi
done
mkdir -p "$system/fastpool"
tar c --exclude=./.git --exclude=./build --exclude='./.venv*' --exclude='*.so' . \
  | tar x -C "$system/fastpool"
for point in proc dev; do mkdir -p "$system/$point"; done
mount -t proc proc "$system/proc"
mount --bind /dev "$system/dev"
trap 'umount "$system/proc" "$system/dev"' EXIT
chroot "$system" env -i HOME=/tmp PATH=/usr/bin:/bin LANG=C.UTF-8 \
  make -C /fastpool test PYTHON="python$version" ON="$version" "$@"
