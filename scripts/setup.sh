#!/usr/bin/env bash
# Makes a fresh machine ready, one part at a time:
# setup.sh venv EXTRAS | opencl | chromium | adb | devices | frontend
# Every part is quick and silent when its work is already done.
set -euo pipefail
cd "$(dirname "$0")/.."
PY=.venv/bin/python

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# apt_install WHY PACKAGE... : installs Debian packages, as root or through sudo.
apt_install() {
  local why=$1 as_root=()
  shift
  command -v apt-get >/dev/null || fail "$why, and this machine has no apt-get; install by hand: $*"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "$why; as root, run: apt-get install -y $*"
    as_root=(sudo)
  fi
  say "$why; installing $*"
  # The list of packages may be missing or old, so it is renewed only when it does not do.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
    >/dev/null 2>&1 && return
  "${as_root[@]}" apt-get update >/dev/null || say "apt-get update failed; trying without"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
    >/dev/null || fail "apt-get could not install $*"
}

python_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null && python_new_enough "$name"; then
      printf '%s\n' "$name"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"
}

# venv EXTRAS : .venv with this package and its extras, redone when pyproject.toml changes.
venv() {
  local extras=$1 stamp=.venv/.installed-$1 base
  if [ ! -x $PY ] || ! python_new_enough $PY; then
    base=$(find_python)
    "$base" -c 'import ensurepip' 2>/dev/null || apt_install "this Python has no venv" python3-venv
    say "making .venv with $("$base" --version)"
    "$base" -m venv --clear .venv
  fi
  if [ ! -e "$stamp" ] || ! cmp -s pyproject.toml "$stamp"; then
    say "installing Python packages (a few minutes the first time)"
    $PY -m pip install --quiet --disable-pip-version-check -e ".[$extras]"
    cp pyproject.toml "$stamp"
  fi
}

# opencl : a device that really compiles and runs a kernel; being listed is not enough.
opencl() {
  export FLASHMEM_LAB_ADB=none  # set-up has no business with phones
  $PY -m flashmem_lab doctor --quick >/dev/null 2>&1 && return
  apt_install "no OpenCL device works here" pocl-opencl-icd
  $PY -m flashmem_lab doctor --quick >&2 || fail "still no OpenCL device works; see above"
}

# chromium : for the tests of what people see.
chromium() {
  local name
  for name in chromium chromium-browser google-chrome; do
    if type -P "$name" >/dev/null; then return; fi  # a file: this function has the name too
  done
  apt_install "no Chromium for the browser tests" chromium
}

# adb : for the tests of phones, which need none: theirs are on loopback. And a C compiler, for the
# agent that runs on them.
adb() {
  type -P adb >/dev/null || apt_install "no adb for the tests of phones" adb
  type -P cc >/dev/null || apt_install "no C compiler for the agent of phones" gcc libc6-dev
}

# frontend : the browser's part, from widgets/; an installed package brings it along.
frontend() {
  $PY scripts/frontend.py || fail "the front end could not be built; see above"
}

# devices : a second OpenCL device (Intel's CPU runtime, from pip wheels) and oclgrind.
# Makes two folders of .icd files for OCL_ICD_VENDORS: .venv/opencl/vendors, .venv/opencl/oclgrind.
devices() {
  local home=.venv/opencl library
  command -v oclgrind >/dev/null || apt_install "no oclgrind to check kernels with" oclgrind
  if [ ! -e $home/.installed ]; then
    say "fetching Intel's OpenCL runtime for CPUs"
    $PY -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed --prefix $home/intel \
      intel-opencl-rt intel-cmplr-lib-rt tbb tcmlib umf
    touch $home/.installed
  fi
  library=$(find "$PWD/$home/intel" -name libintelocl.so)
  [ -n "$library" ] || fail "the wheel intel-opencl-rt holds no libintelocl.so"
  mkdir -p $home/vendors
  printf '%s\n' "$library" >$home/vendors/intel.icd
  cp -f /etc/OpenCL/vendors/*.icd $home/vendors/ 2>/dev/null || true
  mkdir -p $home/oclgrind
  dpkg -L oclgrind | grep -m 1 'rt-icd\.so' >$home/oclgrind/oclgrind.icd
}

case "${1:-}" in
  venv) venv "$2" ;;
  opencl | chromium | adb | devices | frontend) "$1" ;;
  *) fail "usage: setup.sh venv EXTRAS | opencl | chromium | adb | devices | frontend" ;;
esac
