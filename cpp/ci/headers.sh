#!/usr/bin/env bash
# headers.sh FOLDER: unpacks the headers that cpp/ is built with into FOLDER/usr/include.
#
# Needs apt, but neither root nor an installation: ONNX Runtime's headers are in no wheel, and in
# Debian from 13 on, so they are taken from there, checked by Debian's keys, whatever this system is.
set -euo pipefail

folder=$1
suite=trixie
packages=(libonnxruntime-dev nlohmann-json3-dev libstb-dev)
keys=/usr/share/keyrings/debian-archive-keyring.gpg

for need in apt-get dpkg-deb; do
  command -v "$need" > /dev/null || { echo "headers.sh needs $need" >&2; exit 1; }
done
test -f "$keys" || { echo "headers.sh needs the package debian-archive-keyring" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial" "$folder"
# The mirror that this system uses.
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' |
  awk '$1 ~ /\/debian\/?$/ {print $1; exit}')
test -n "$mirror" || { echo "headers.sh: no mirror of Debian in apt's sources" >&2; exit 1; }
echo "deb [signed-by=$keys] $mirror $suite main" > "$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download "${packages[@]}")
for package in "$work"/*.deb; do dpkg-deb -x "$package" "$folder"; done
test -f "$folder/usr/include/onnxruntime/onnxruntime_c_api.h"
echo "headers are in $folder/usr/include"
