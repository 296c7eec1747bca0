#!/bin/sh
# Installs what is missing to build and run the kernel; says nothing when nothing is.
#
#   ./setup.sh         what `cargo run` needs; `cargo test` then skips some tests, and names what is missing
#   ./setup.sh --all   also what these need: other processors' QEMU and targets, the oldest Rust that the crate promises,
#                      compilers of C and C++, gdb
#
# QEMU and compilers come from the system's package manager, the rest from rustup.
set -eu
cd "$(dirname "$0")"

case "$*" in
    "") all=no ;;
    --all) all=yes ;;
    *)
        echo "usage: ./setup.sh [--all]" >&2
        exit 2
        ;;
esac

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

# Installs packages, each named as the package manager that is there names it.
install() {
    if has apt-get; then
        # A fresh machine may have no package lists yet.
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $1
    elif has dnf; then
        as_root dnf install -y $2
    elif has pacman; then
        as_root pacman -S --needed --noconfirm $3
    elif has zypper; then
        as_root zypper --non-interactive install $4
    elif has apk; then
        as_root apk add $5
    elif has brew; then
        brew install $6
    else
        die "no package manager that I know: install $7 by hand"
    fi
}

# Installs what has this command: `require COMMAND`, then the packages for apt, dnf, pacman, zypper, apk and brew.
require() {
    has "$1" && return
    install "$2" "$3" "$4" "$5" "$6" "$7" "$1"
    has "$1" || die "$1 is still missing"
}

require qemu-system-x86_64 \
    qemu-system-x86 qemu-system-x86-core qemu-system-x86 qemu-x86 qemu-system-x86_64 qemu

if [ $all = yes ]; then
    require qemu-system-aarch64 \
        qemu-system-arm qemu-system-aarch64-core qemu-system-aarch64 qemu-arm qemu-system-aarch64 qemu
    require qemu-system-riscv64 \
        qemu-system-misc qemu-system-riscv-core qemu-system-riscv qemu-extra qemu-system-riscv64 qemu
    require gdb gdb gdb gdb gdb gdb gdb
    require valgrind valgrind valgrind valgrind valgrind valgrind valgrind
    require clang clang clang clang clang clang llvm
    # Debian has clang's runtime libraries, of which LeakSanitizer is one, in a package of their own.
    runtime=$(clang --print-resource-dir)/lib/linux
    if [ ! -e "$runtime/libclang_rt.lsan-$(uname -m).a" ] && has apt-get && apt-cache show libclang-rt-dev >/dev/null 2>&1; then
        install libclang-rt-dev
    fi
    require c++ g++ gcc-c++ gcc gcc-c++ g++ gcc
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

if [ $all = yes ]; then
    for other in aarch64-unknown-none riscv64gc-unknown-none-elf i686-unknown-linux-gnu thumbv7em-none-eabi; do
        need "lib/rustlib/$other/lib" target add "$other"
    done
    oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' kmemleak/Cargo.toml)
    if ! rustup toolchain list | grep -q "^$oldest[.-]"; then
        say "rustup toolchain install $oldest"
        rustup toolchain install "$oldest" --profile minimal
    fi
fi
