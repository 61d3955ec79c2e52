#!/usr/bin/env bash
# Unpacks a Vulkan driver that computes on the CPU, Mesa's lavapipe, into a folder: `driver.json`,
# which names it to Vulkan's loader, and `lib` with the loader and all libraries that the machine
# lacks. Nothing is installed, and apt's own state stays as it is. Debian and Ubuntu only.
set -euo pipefail
folder=${1:?usage: fetch_vulkan.sh FOLDER}

. /etc/os-release
release=${UBUNTU_CODENAME:-${VERSION_CODENAME:-}}
if [[ -z $release ]] || ! command -v apt-get >/dev/null; then
    echo 'A Debian or Ubuntu is needed: the driver is made of their packages.' >&2
    exit 1
fi

# Packages come from where the machine has its own from.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Component: main' |
    awk -v release="$release" '$2 == release || $2 ~ /^(old|un)?stable$|^testing$/ { print $1; exit }')
if [[ -z $mirror ]]; then
    echo "apt has no source for the main packages of $release." >&2
    exit 1
fi
suites=("$release" "$release-updates")
if [[ $release == bookworm ]]; then
    suites+=("$release-backports") # the Mesa 22 of Debian 12 is too old
fi
keys=$(find /usr/share/keyrings -name debian-archive-keyring.gpg -o -name ubuntu-archive-keyring.gpg)

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
rm -rf "$folder"/*
mkdir -p "$folder"/lists/partial "$folder"/archives/partial "$folder"/root
for suite in "${suites[@]}"; do
    echo "deb ${keys:+[signed-by=$(paste -sd, <<<"$keys")]} $mirror $suite main"
done >"$folder/sources.list"
apt=(
    apt-get --quiet --assume-yes
    -o "Dir::Etc::SourceList=$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache::Archives=$folder/archives"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o "APT::Sandbox::User=$(id -un)" -o Debug::NoLocking=true
)
"${apt[@]}" update
"${apt[@]}" --target-release "${suites[-1]}" --no-install-recommends --download-only --reinstall \
    install mesa-vulkan-drivers libvulkan1
for package in "$folder"/archives/*.deb; do
    dpkg --extract "$package" "$folder/root"
done

driver=$(find "$folder/root" -name libvulkan_lvp.so -print -quit)
if [[ -z $driver ]]; then
    echo "The packages of $release have no lavapipe (libvulkan_lvp.so)." >&2
    exit 1
fi
ln -s "$(dirname "$driver")" "$folder/lib"
printf '{"file_format_version": "1.0.0", "ICD": {"api_version": "1.3.0", "library_path": "%s"}}\n' \
    "$driver" >"$folder/driver.json"
rm -r "$folder/lists" "$folder/archives"
