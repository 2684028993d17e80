#!/usr/bin/env bash
# Installs the Debian packages (12 and 13) this repository needs.
#
#   tests/install-packages.sh [--build] [--tests] [--fuzz] [--list]
#
#   --build  what building and running Postern takes (the default)
#   --tests  that, and what tests/run.sh takes
#   --fuzz   what building takes, and what tests/fuzz/run.sh does
#   --list   print the packages instead of installing them
#
# Needs root or a sudoer. Does nothing, quickly, when all is there already, and
# starts no service: of PostgreSQL only the programs are used, each time with a
# data directory of our own.
set -euo pipefail

build=(
  g++ cmake ninja-build pkg-config ccache ca-certificates
  libsodium-dev libssl-dev libpqxx-dev nlohmann-json3-dev libspdlog-dev libpistache-dev
  libboost-dev libcurl4-openssl-dev libyaml-cpp-dev libtomlplusplus-dev libcli11-dev
  libp11-kit-dev  # one header: PKCS #11
  prometheus-cpp-dev postgresql
  openssl python3  # the quickstart's identity provider and backend
)
tests=(libgtest-dev libgmock-dev libbenchmark-dev clang-format curl procps wrk nginx-light
  softhsm2  # a PKCS #11 token
  python3-yaml python3-jsonschema   # the contract test
  python3-authlib python3-hvac python3-requests)  # the interop tests
# A Node.js of another origin may be on the PATH; Debian's would only be in its way.
command -v npm >/dev/null || tests+=(npm nodejs)

wanted=("${build[@]}") list=0
for option in "$@"; do
  case $option in
    --build) ;;
    --tests) wanted+=("${tests[@]}") ;;
    --fuzz)
      # What the compiler needs at run time has its version in the name.
      clang=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
      wanted+=(clang "libclang-rt-${clang:-14}-dev") ;;
    --list) list=1 ;;
    *) echo "install-packages: unknown option $option (see the head of $0)" >&2; exit 2 ;;
  esac
done
(( list )) && { printf '%s\n' "${wanted[@]}"; exit 0; }

missing=()
installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
for package in "${wanted[@]}"; do
  grep -qx "$package installed" <<<"$installed" || missing+=("$package")
done
(( ${#missing[@]} )) || exit 0

as_root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || { echo "install-packages: needs root or sudo for: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi

# While we install, no package may start a service or create a database cluster.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/zz-postern-install.conf
made=()
restore() { (( ${#made[@]} )) && "${as_root[@]}" rm -f "${made[@]}" || true; }
trap restore EXIT
if [[ ! -e $policy ]]; then
  made+=("$policy")
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
fi
made+=("$cluster")
"${as_root[@]}" mkdir -p "${cluster%/*}"
echo 'create_main_cluster = false' | "${as_root[@]}" tee "$cluster" >/dev/null

apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends "${missing[@]}"
