#!/bin/sh
# install-conf SOURCE TARGET: a copy of SOURCE stands in the place of TARGET, in one step, with the mode of SOURCE.
#
# In the image it is /opt/bin/install-conf, which manifests made for flannel's image run to install the CNI config. A
# container runtime looks at that folder whenever it changes, and on a machine that lost power after it, so it never
# sees half a file: the copy is made beside TARGET under a name that no runtime reads, written out, and renamed. A
# TARGET that is equal already is left alone, and the runtime reads nothing anew.
set -eu

fail() {
  echo "Cannot install $source as $target: $1" >&2
  exit 1
}

if [ $# -ne 2 ]; then
  echo 'usage: install-conf SOURCE TARGET' >&2
  exit 2
fi
source=$1
target=$2
folder=$(dirname -- "$target")
[ -f "$source" ] || fail "$source is not a file"
[ -s "$source" ] || fail "$source is empty"
[ -d "$folder" ] || fail "$folder is not a folder"
[ ! -d "$target" ] || fail "$target is a folder"

mode() { stat -L -c %a -- "$1"; }
if [ -f "$target" ] && cmp -s -- "$source" "$target" && [ "$(mode "$source")" = "$(mode "$target")" ]; then
  exit 0
fi

# Ends in neither .conf nor .conflist nor .json.
copy=$(mktemp -- "$folder/.$(basename -- "$target").XXXXXX") || fail "no file can be made in $folder"
trap 'rm -f -- "$copy"' EXIT
trap 'exit 1' HUP INT TERM
cat -- "$source" > "$copy" || fail 'the copy is not whole'
chmod -- "$(mode "$source")" "$copy"
sync -- "$copy"
mv -f -- "$copy" "$target"
sync -- "$folder"
