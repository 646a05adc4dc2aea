#!/usr/bin/env bash
# Builds twill_<version>_<arch>.deb in the given folder (default: the current one) from this checkout.
# Needs what `npm ci` needs, and dpkg-dev. The package depends on a Node.js of Debian's name "nodejs".
# COMPILED=DIR takes dist/ and prebuilds/ from there instead of compiling them.
# Two builds of one commit are equal byte for byte: names are sorted, times are SOURCE_DATE_EPOCH (by default the
# commit's), modes are set.
# DEBFULLNAME and DEBEMAIL name who builds it, as for Debian's own tools; the default address belongs to nobody.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8 TZ=UTC
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(cd "${1:-.}" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

cd "$root"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || stat -c %Y CHANGELOG.md)}
version=$(node -p "require('$root/package.json').version")
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-twill maintainers} <${DEBEMAIL:-twill@example.org}>"
tree=$stage/tree
lib=$tree/usr/lib/twill
doc=$tree/usr/share/doc/twill
mkdir -p "$lib" "$doc/examples" "$tree/usr/bin" "$tree/usr/lib/cni" "$tree/lib/systemd/system" "$tree/etc/default" \
  "$tree/usr/share/man/man1" "$tree/usr/share/man/man8" "$tree/usr/share/bash-completion/completions" \
  "$tree/usr/share/lintian/overrides" "$tree/DEBIAN"

# The same files as the npm package, and the dependencies of the lock file. They are built in a copy, for prebuildify
# empties build/.
copy=$stage/copy
mkdir "$copy"
cp -a addon binding.gyp docs src tsconfig*.json package.json package-lock.json LICENSE README.md CHANGELOG.md \
  SECURITY.md "$copy/"
ln -s "$root/node_modules" "$copy/node_modules"
cd "$copy"
if [ -n "${COMPILED:-}" ]; then
  cp -a "$COMPILED/dist" "$COMPILED/prebuilds" .
  find prebuilds -type f -exec strip --strip-unneeded {} +
else
  npm run --silent build:ts >&2
  npm run --silent package:prebuilds >&2
fi
tarball=$(npm pack --silent --ignore-scripts --pack-destination "$stage")
tar -xzf "$stage/$tarball" -C "$lib" --strip-components=1
cp package-lock.json "$lib/"
(cd "$lib" && npm ci --omit=dev --ignore-scripts --prefer-offline --no-audit --no-fund --silent >&2)
# The optional package is compiled for the Node.js that is installed here; under another one the addon has its place.
rm -rf "$lib/node_modules/raw-socket/build"
if [ -d node_modules/raw-socket/build/Release ]; then
  mkdir -p "$lib/node_modules/raw-socket/build/Release"
  cp node_modules/raw-socket/build/Release/raw.node "$lib/node_modules/raw-socket/build/Release/"
  strip --strip-unneeded "$lib/node_modules/raw-socket/build/Release/raw.node"
fi

# Documents where Debian wants them; in the library stays only what runs.
mv "$lib/docs" "$lib/README.md" "$lib/SECURITY.md" "$doc/"
mv "$doc"/docs/install/*.{yml,service} "$doc"/docs/install/*.json "$doc/docs/install/kubernetes" "$doc/examples/"
rm -rf "$doc/docs/install"
ln -s ../examples "$doc/docs/install" # the documents' links go on working
gzip -9n < CHANGELOG.md > "$doc/CHANGELOG.md.gz"
rm -rf "$lib/addon" "$lib/dist/cni" "$lib/binding.gyp" "$lib/package-lock.json" "$lib/LICENSE" \
  "$lib/CHANGELOG.md" "$lib/node_modules/node-addon-api"
rm -rf "$lib/node_modules/pino/docs" "$lib/node_modules/pino/index.html" # a web page that loads scripts from elsewhere
find "$lib" -name '*.map' -delete
find "$lib/node_modules" '(' -name test -o -name tests -o -name benchmarks -o -name '*.sh' ')' -prune -exec rm -rf {} +
find "$lib" -mindepth 1 -name '.*' -prune -exec rm -rf {} +

for pair in twilld:main flanneld:main twill:cli/main mk-docker-opts:docker/mk-docker-opts; do
  ln -s "../lib/twill/dist/${pair#*:}.js" "$tree/usr/bin/${pair%%:*}"
done
# The plugin is copied to hosts that have nothing of this package, so it brings its libraries.
mv "$lib"/prebuilds/*/twill-cni "$tree/usr/lib/cni/twill-cni"
mv "$lib"/prebuilds/*/twill-holder "$tree/usr/bin/twill-holder"
{
  echo 'twill: shared-library-lacks-prerequisites [usr/lib/cni/twill-cni]'
  echo 'twill: statically-linked-binary [usr/bin/twill-holder]'
} > "$tree/usr/share/lintian/overrides/twill"
install -m 0644 docs/install/twilld.service "$tree/lib/systemd/system/twilld.service"
install -m 0644 docs/install/twilld.default "$tree/etc/default/twilld"
install -m 0644 docs/install/twilld.bash "$tree/usr/share/bash-completion/completions/twilld"
ln -s twilld "$tree/usr/share/bash-completion/completions/flanneld"
echo /etc/default/twilld > "$tree/DEBIAN/conffiles"

page() {
  docs/install/man-page.sh "$1" "$2" "$3" node "$lib/dist/$4.js" | gzip -9n > "$tree/usr/share/man/man$2/$1.$2.gz"
}
page twilld 8 'overlay network daemon, a drop-in replacement for flanneld' main
page twill 1 'what the overlay of this host does, and what is wrong with it' cli/main
page mk-docker-opts 1 'options for the Docker daemon from the subnet of the overlay' docker/mk-docker-opts
ln -s twilld.8.gz "$tree/usr/share/man/man8/flanneld.8.gz"

{
  echo "twill ($version) unstable; urgency=medium"
  echo
  echo "  * What changed in it is in /usr/share/doc/twill/CHANGELOG.md.gz."
  echo
  echo " -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$doc/changelog.gz"

# Licences: ours, and what each package of node_modules says of itself; its own text stays beside its code.
node - "$lib" > "$doc/copyright" << 'COPYRIGHT'
const { existsSync, readFileSync, readdirSync } = require('node:fs');
const lib = process.argv[2];
const packages = readdirSync(`${lib}/node_modules`)
  .flatMap((name) =>
    name.startsWith('@') ? readdirSync(`${lib}/node_modules/${name}`).map((part) => `${name}/${part}`) : [name])
  .filter((name) => existsSync(`${lib}/node_modules/${name}/package.json`))
  .sort();
const stanzas = packages.map((name) => {
  const { license, author } = JSON.parse(readFileSync(`${lib}/node_modules/${name}/package.json`, 'utf8'));
  const who = typeof author === 'object' ? author.name : author;
  const terms = typeof license === 'string' ? license : (license?.type ?? 'see-its-folder');
  return { name, terms: terms.replace(/[()]/g, ''), who: who ?? `the authors of ${name}` };
});
const paragraph = (files, who, terms) => `Files: ${files}\nCopyright: ${who}\nLicense: ${terms}\n`;
const LICENCES = {
  'Apache-2.0': ' On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.',
  'BSD-3-Clause': ' The text is in the folder of each package below /usr/lib/twill/node_modules.',
};
const terms = [...new Set(['Apache-2.0', ...stanzas.map((stanza) => stanza.terms)])].sort();
process.stdout.write(
  [
    'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: twill\n',
    paragraph('*', '2026 the twill authors', 'Apache-2.0'),
    `${paragraph('usr/lib/cni/twill-cni usr/bin/twill-holder', '2026 the twill authors', 'Apache-2.0').trimEnd()}
Comment: Parts of the GNU C library (LGPL-2.1+) and of GCC's libraries (GPL-3+ with the GCC Runtime Library Exception)
 are linked into them; Built-Using in the package's control file names their sources.\n`,
    ...stanzas.map(({ name, who, terms }) => paragraph(`usr/lib/twill/node_modules/${name}/*`, who, terms)),
    ...terms.map((term) => `License: ${term}\n${LICENCES[term] ?? LICENCES['BSD-3-Clause']}\n`),
  ].join('\n'),
);
COPYRIGHT

# Only what begins with an interpreter may be run; libraries and data are not.
find "$tree" -type d -exec chmod 0755 {} +
find "$tree" -type f -exec chmod 0644 {} +
find "$lib" -type f -name '*.js' -print0 | xargs -0 grep -lZ -m1 '^#!' | while IFS= read -r -d '' script; do
  if [ "$(head -c 2 "$script")" = '#!' ]; then chmod 0755 "$script"; fi
done
chmod 0755 "$tree/usr/lib/cni/twill-cni" "$tree/usr/bin/twill-holder"

# The least versions of the C libraries are those whose symbols the compiled code uses.
mkdir -p "$stage/shlibs/debian"
printf 'Source: twill\n\nPackage: twill\nArchitecture: any\n' > "$stage/shlibs/debian/control"
libraries=$(cd "$stage/shlibs" &&
  find "$lib" -name '*.node' -print0 | sort -z | xargs -0 dpkg-shlibdeps --ignore-missing-info -O \
  2> /dev/null | sed -n 's/^shlibs:Depends=//p')
# Whose sources are in the plugin and in twill-holder.
compiler=libstdc++-$(${CXX:-g++} -dumpversion | cut -d. -f1)-dev
built_using=$(dpkg-query -W -f '${source:Package} (= ${source:Version}), ' libc6-dev "$compiler")

cat > "$tree/DEBIAN/control" <<CONTROL
Package: twill
Version: $version
Architecture: $arch
Maintainer: $maintainer
Section: net
Priority: optional
Depends: nodejs (>= 20.17), $libraries, iproute2, iptables | nftables
Recommends: tcpdump, containernetworking-plugins
Built-Using: ${built_using%, }
Provides: flannel
Conflicts: flannel
Replaces: flannel
Installed-Size: $(du -sk --apparent-size "$tree/usr" | cut -f1)
Description: overlay network daemon, a drop-in replacement for flanneld
 Gives every host of a cluster a subnet and carries packets between the
 containers of different hosts, by a userspace data path over UDP, by VXLAN or
 by plain routes. Store, files and packets are flannel's.
CONTROL

cat > "$tree/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
# Not started by itself: which etcd to use is set in /etc/default/twilld first.
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  if [ -n "$2" ]; then systemctl try-restart twilld.service; fi
fi
POSTINST
cat > "$tree/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now twilld.service; fi
PRERM
cat > "$tree/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
POSTRM
chmod 0755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"

(cd "$tree" && find usr lib etc -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
chmod 0644 "$tree/DEBIAN/md5sums" "$tree/DEBIAN/control" "$tree/DEBIAN/conffiles"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$tree" "$out/twill_${version}_${arch}.deb" >&2
echo "$out/twill_${version}_${arch}.deb"
