#!/usr/bin/env bash
# headers.sh FOLDER [MIRROR]: unpacks the headers that cpp/ is built with into FOLDER/usr/include.
#
# Needs apt, but neither root nor an installation: ONNX Runtime's headers are in no wheel, and in
# Debian from 13 on, so they are taken from there, checked by Debian's keys, whatever this system is.
# MIRROR is one of Debian, with http:// before it; on Debian it is the one that the system uses.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: headers.sh FOLDER [MIRROR], a mirror of https://www.debian.org/mirror/list" >&2
  exit 2
fi

folder=$1
suite=trixie
packages=(libonnxruntime-dev nlohmann-json3-dev libstb-dev)
keyring=usr/share/keyrings/debian-archive-keyring.gpg

for need in apt-get dpkg-deb; do
  command -v "$need" > /dev/null || { echo "headers.sh needs $need" >&2; exit 1; }
done
mirror=${2:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' |
  awk '/^https?:\/\/[^\/]+\/(pub\/)?debian\/?$/ {print; exit}')}  # others have debian/ deeper in
if [ -z "$mirror" ]; then
  echo "headers.sh: no mirror of Debian in apt's sources" >&2
  echo "hint: headers.sh $folder MIRROR, one of https://www.debian.org/mirror/list" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$folder"
keys=/$keyring
if [ ! -f "$keys" ]; then  # as on Ubuntu, which has the package too, and vouches for it
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download debian-archive-keyring) ||
    { echo "headers.sh needs the package debian-archive-keyring" >&2; exit 1; }
  dpkg-deb -x "$work"/debian-archive-keyring*.deb "$work/keyring"
  keys=$work/keyring/$keyring
fi
echo "deb [signed-by=$keys] $mirror $suite main" > "$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "${packages[@]}")
rm -f "$work"/debian-archive-keyring*.deb
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
test -f "$folder/usr/include/onnxruntime/onnxruntime_c_api.h"
echo "headers are in $folder/usr/include"
