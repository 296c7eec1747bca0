#!/bin/sh
# Installs what is missing to build and run the kernel; says nothing when nothing is.
#
# QEMU comes from the system's package manager, the rest from rustup.
set -eu
cd "$(dirname "$0")"

target=x86_64-unknown-none

say() {
    echo "setup: $*" >&2
}

die() {
    say "$*"
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Runs a command as root, if there is a way to.
as_root() {
    if [ "$(id -u)" -ne 0 ] && has sudo; then
        set -- sudo "$@"
    fi
    say "$*"
    "$@"
}

install_qemu() {
    if has apt-get; then
        # A fresh machine may have no package lists yet.
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends qemu-system-x86
    elif has dnf; then
        as_root dnf install -y qemu-system-x86-core
    elif has pacman; then
        as_root pacman -S --needed --noconfirm qemu-system-x86
    elif has zypper; then
        as_root zypper --non-interactive install qemu-x86
    elif has apk; then
        as_root apk add qemu-system-x86_64
    elif has brew; then
        brew install qemu
    else
        die "no package manager that I know: install qemu-system-x86_64 by hand"
    fi
}

if ! has qemu-system-x86_64; then
    install_qemu
    has qemu-system-x86_64 || die "qemu-system-x86_64 is still missing"
fi

has rustc || die "no Rust toolchain: install rustup, see https://rustup.rs"

# The pinned toolchain, where rustup does not install it by itself.
if ! sysroot=$(rustc --print sysroot 2>/dev/null); then
    channel=$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)
    has rustup || die "rustc does not run, and there is no rustup to install it: see https://rustup.rs"
    say "rustup toolchain install $channel"
    rustup toolchain install "$channel" --profile minimal
    sysroot=$(rustc --print sysroot)
fi

# Adds what rustup knows under that name, if the file that comes with it is missing.
need() {
    [ -e "$sysroot/$1" ] && return
    shift
    has rustup || die "no rustup, and this is missing: $*"
    say "rustup $*"
    rustup "$@"
}

need "lib/rustlib/$target/lib" target add "$target"
need bin/rustfmt component add rustfmt
need bin/cargo-clippy component add clippy
