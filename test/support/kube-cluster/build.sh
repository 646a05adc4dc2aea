#!/usr/bin/env bash
# Builds kube-apiserver and kube-controller-manager from Debian's source package `kubernetes` by Debian's golang-go, in
# minutes, and puts them into DIR/kubernetes-<version>, where DIR is the first argument. Prints that folder's path.
#
# Needs apt-get, dpkg-dev and golang-go, and a few GB of disk while it runs. The machine's own package lists say where
# the source is, and lists of our own fetch it: nothing of the machine's apt is changed.
# The folder gets its name once it is whole, so one that has the name can be relied on. One build runs at a time.
set -euo pipefail
export LC_ALL=C.UTF-8
mkdir -p "$1"
cache=$(cd "$1" && pwd)

exec 9> "$cache/.lock"
flock 9
rm -rf "$cache"/.build-* # of a build that was killed
stage=$(mktemp -d "$cache/.build-XXXXXX")
trap 'rm -rf "$stage"' EXIT

say() { echo "kubernetes: $*" >&2; }
fail() { say "$*" && exit 1; }

# Of the machine's package lists, those of Debian: the same archive and release, "deb-src" in place of "deb".
lists() {
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' | sort -u
}
if [ -z "$(lists)" ]; then apt-get update -qq >&2; fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
lists | while read -r uri release component; do
  echo "deb-src [signed-by=$keyring] $uri $release $component"
done > "$stage/sources.list"
[ -s "$stage/sources.list" ] || fail "apt-get knows no package list of Debian to take the source package from"

mkdir -p "$stage/lists/partial" "$stage/source" "$stage/tmp"
apt=(apt-get -qq
  -o "Dir::Etc::sourcelist=$stage/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$stage/lists" -o "Dir::Cache=$stage" -o APT::Sandbox::User=root)
"${apt[@]}" update >&2
cd "$stage/source"
"${apt[@]}" --only-source source kubernetes >&2 || fail "no source package \"kubernetes\" in this release of Debian"
debian=$(sed -n 's/^Version: //p' ./*.dsc | head -n 1)
# 1.20.5+really1.20.2-1.1+deb12u1 is 1.20.2
version=$(echo "$debian" | sed -e 's/^[0-9]*://' -e 's/-[^-]*$//' -e 's/.*+really//' -e 's/[+~].*//')
target=$cache/kubernetes-$version
if [ -d "$target" ]; then
  echo "$target" && exit
fi

export GOPATH=$stage/go GOCACHE=$stage/go-cache GOTMPDIR=$stage/tmp GO111MODULE=off GOFLAGS='' CGO_ENABLED=0
package=k8s.io/kubernetes
tree=$GOPATH/src/$package
mkdir -p "$(dirname "$tree")"
mv "$(find . -mindepth 1 -maxdepth 1 -type d)" "$tree"
cd "$tree"
[ -d vendor/k8s.io/kube-openapi/cmd/openapi-gen ] ||
  fail "kubernetes $debian does not carry its dependencies: only a release of Debian whose source does can be used"
say "building $version of Debian's source package $debian by $(go version), in $stage"

# The one generated file that the source lacks: the schema of all types that ask for it by a comment.
go build -o "$stage/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
types=$(grep -rl --include='*.go' '^// *+k8s:openapi-gen=' pkg cmd staging/src/k8s.io |
  grep -v -e /code-generator/ -e /sample-apiserver/ | xargs -n 1 dirname | sort -u |
  sed -e 's,^staging/src/,vendor/,' -e "s,^,$package/," | paste -sd,)
"$stage/openapi-gen" --input-dirs "$types" \
  --output-base "$GOPATH/src" --output-package "$package/pkg/generated/openapi" \
  --output-file-base zz_generated.openapi --report-filename "$stage/violations" \
  --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt

IFS=. read -r major minor _ <<< "$version"
flags='-s -w'
for of in client-go/pkg/version component-base/version; do
  of=$package/vendor/k8s.io/$of
  flags+=" -X $of.gitVersion=v$version -X $of.gitMajor=$major -X $of.gitMinor=$minor"
done
mkdir "$stage/made"
for program in kube-apiserver kube-controller-manager; do
  go build -trimpath -ldflags "$flags" -o "$stage/made/$program" "./cmd/$program"
  "$stage/made/$program" --version >&2
done
printf 'Debian source package kubernetes %s, built by %s\n' "$debian" "$(go version)" > "$stage/made/built-from"
mv "$stage/made" "$target"
echo "$target"
