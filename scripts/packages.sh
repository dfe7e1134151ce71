# Sourced by the scripts beside it: installs the programs that they use.

declare -A package=(
  [c++]=g++ [cc]=gcc [h2load]=nghttp2-client [initdb]=postgresql
  [setpriv]=util-linux [taskset]=util-linux [venv]=python3-venv
)

# Debian keeps nginx and HAProxy off the PATH of most users ...
PATH=$PATH:/usr/sbin

# ... and PostgreSQL's programs off everybody's, in a folder for each version.
has() {
  case $1 in
  venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
  *) command -v "$1" >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null ;;
  esac
}

# The packages of the programs that are missing.
missing() {
  local tool
  for tool; do
    has "$tool" || echo "${package[$tool]-$tool}"
  done
}

install_packages() (
  export DEBIAN_FRONTEND=noninteractive
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then # else the packages of servers start one
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  apt-get update -q && apt-get install -yq --no-install-recommends "$@"
)

# need_tools NAME TOOL...: NAME is whose words they are. Installs what is missing (Debian and its derivatives, as root).
# Ends the script where something is missing still, and says what to install.
need_tools() {
  local name=$1 packages
  shift
  packages=$(missing "$@")
  if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "$name: installing" $packages >&2
    install_packages $packages >&2 || true
    packages=$(missing "$@")
  fi
  if [ -n "$packages" ]; then
    echo "$name: missing; install it: sudo apt-get install" $packages >&2
    exit 1
  fi
}
