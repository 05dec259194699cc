#!/usr/bin/env bash
# Build both images from nothing but Debian's mirror and dist/wheelhouse, without a daemon, a registry or anything installed here
# (except debootstrap): buildah runs in a chroot of its own. For machines that have Docker or Podman the command is in Dockerfile.
#
# All is kept in CACHE, so that the next build takes the chroots as they are: base (BASE of the Dockerfile), tools (the same
# with buildah), images. CACHE/layers/{coordinator,institution} name the layers of each, which tests run, and their config.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/confide/images
MIRROR=http://deb.debian.org/debian
SUITE=bookworm
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

if [ "$(id -u)" != 0 ]; then
  echo "containers/build.sh: needs root, for chroot and mounts; or build containers/Dockerfile with Docker." >&2
  exit 2
fi
test -s dist/wheelhouse/SHA256SUMS || make kit
if ! command -v debootstrap >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap
fi
mkdir -p "$CACHE"

# Each folder gets its name only when it is whole.
if ! [ -d "$CACHE/base" ]; then
  rm -rf "$CACHE/base.part"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$SUITE" "$CACHE/base.part" "$MIRROR" >"$CACHE/base.log"
  rm -rf "$CACHE"/base.part/var/cache/apt/archives/*.deb "$CACHE"/base.part/var/lib/apt/lists/*
  mv "$CACHE/base.part" "$CACHE/base"
fi
if ! [ -d "$CACHE/tools" ]; then
  rm -rf "$CACHE/tools.part"
  cp -a "$CACHE/base" "$CACHE/tools.part"
  cp /etc/resolv.conf "$CACHE/tools.part/etc/resolv.conf"
  chroot "$CACHE/tools.part" sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah' >"$CACHE/tools.log" 2>&1
  mv "$CACHE/tools.part" "$CACHE/tools"
fi
mkdir -p "$CACHE/tools"/{proc,dev,cache,context,containers}
rm -rf "$CACHE/images" "$CACHE/layers"
mkdir -p "$CACHE/images" "$CACHE/layers"

# Mounts are this process's own, and gone with it.
unshare --mount --propagation private bash -euo pipefail -s "$CACHE" "$VERSION" <<'INSIDE'
tools=$1/tools
mount --bind "$tools" "$tools"  # buildah asks for a root that is a mount
mount -t proc proc "$tools/proc"
mount --rbind /dev "$tools/dev"
mount --bind "$1" "$tools/cache"
mount --bind dist/wheelhouse "$tools/context"
mount --bind containers "$tools/containers"
exec chroot "$tools" env -i PATH="$PATH" HOME=/root VERSION="$2" bash -euo pipefail -c '
  export STORAGE_DRIVER=overlay BUILDAH_ISOLATION=chroot
  buildah() { command buildah --root /cache/images --runroot /run/images "$@"; }
  scratch=$(buildah from scratch)
  buildah add --quiet "$scratch" /cache/base / >/dev/null
  buildah commit --quiet --rm "$scratch" localhost/base >/dev/null
  for target in coordinator institution; do
    image=localhost/confide-$target:$VERSION
    buildah build --format docker --layers --build-arg BASE=localhost/base --file /containers/Dockerfile \
      --target "$target" --tag "$image" /context >"/cache/$target.log" 2>&1 || { tail -20 "/cache/$target.log" >&2; exit 1; }
    buildah inspect --type image "$image" >"/cache/layers/$target.json"
    # The layers as overlayfs takes them, the uppermost first.
    merged=$(buildah mount "$(buildah from "$image")")
    tr : "\n" <"${merged%merged}lower" | sed "s|^|images/overlay/|" >"/cache/layers/$target"
  done
  buildah images --format "{{.Name}}:{{.Tag}} {{.Size}}"
'
INSIDE
