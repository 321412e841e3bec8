# shellcheck shell=bash disable=SC2034
# What the scripts of this directory share; they source it.

# Packages of Debian 12, checked by apt. After a point release, put here what is served then.
musl_version=1.2.3-1
sodium_version=1.0.18-1+deb12u1
libgcc_version=12.2.0-14cross1
libgcc_riscv64_version=12.2.0-13cross1

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
root=$PWD cache=$PWD/.build-cross
export LC_ALL=C

die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# For what needs the toolchain: its tools (clang, lld, llvm-*) need not be in PATH.
use_toolchain() {
  local swift
  swift=$(command -v swift) || die 'no swift in PATH: install the toolchain from swift.org'
  PATH=$(dirname "$(readlink -f "$swift")"):$PATH
}

version=$(sed -n 's/.*let version: StaticString = "\(.*\)"$/\1/p' Sources/Programs/Version.swift)
[[ $version ]] || die 'no version in Sources/Programs/Version.swift'

architectures=(x86_64 aarch64 armv6 i686 riscv64)

# Sets what differs for one architecture, given by our name, the kernel's or Docker's. Swift has no
# library for a musl triple, so it is compiled for the bare machine and C for musl; $abi is what
# both need to agree. On a 32-bit machine every conversion to or from a 64-bit integer trips
# -no-allocations, though the code that would allocate is never emitted: there, only cross/check
# shows that nothing allocates.
target() {
  abi=() libgcc=$libgcc_version no_allocations=(-no-allocations)
  case $1 in
  x86_64 | amd64)
    arch=x86_64 swift_triple=x86_64-unknown-none-elf debian=amd64 docker=amd64 machine='X86-64'
    ;;
  aarch64 | arm64)
    arch=aarch64 swift_triple=aarch64-none-none-elf debian=arm64 docker=arm64 machine=AArch64
    ;;
  armv* | arm)
    arch=armv6 swift_triple=armv6-none-none-eabi debian=armel docker=arm/v6 machine=ARM
    abi=(-mfloat-abi=soft) no_allocations=()
    ;;
  i?86 | 386)
    arch=i686 swift_triple=i686-unknown-none-elf debian=i386 docker=386 machine=80386
    no_allocations=()
    ;;
  riscv64)
    arch=riscv64 swift_triple=riscv64-none-none-eabi debian=riscv64 docker=riscv64 machine=RISC-V
    abi=(-march=rv64gc -mabi=lp64d) libgcc=$libgcc_riscv64_version
    ;;
  *) die "unknown architecture '$1' (known: ${architectures[*]}, all)" ;;
  esac
  musl_triple=$arch-linux-musl
  [[ $arch != armv6 ]] || musl_triple+=eabi
  file=dist/pyknock-$version-linux-$arch
  linked=$cache/$arch/release/pyknock
}
