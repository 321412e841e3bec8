# shellcheck shell=bash disable=SC2034
# What the scripts share: versions, build flags, and what differs between architectures. They source
# it; `cross/show` prints what is in it.

# Source packages of Debian 12. After a point release, put here the versions that Debian serves then.
musl_version=1.2.3-1
sodium_version=1.0.18-1+deb12u1
# The checksum of the standard library that cross/through-arm uses on big-endian machines.
armv6_library=8c9e8139f0c6df0254afc93cd93624af1974086cfbd7e18f0bdfc0674c971e37

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
root=$PWD cache=$PWD/.build-cross
export LC_ALL=C
# A make that calls a script passes its variables on. The ARCH of our Makefile would end up in musl's.
unset MAKEFLAGS MFLAGS ARCH

die() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  exit 1
}

# Finds the tools of the Swift toolchain (clang, lld, llvm-*), which need not be in PATH.
use_toolchain() {
  local swift
  swift=$(command -v swift) || die 'no swift in PATH: install the toolchain from swift.org'
  PATH=$(dirname "$(readlink -f "$swift")"):$PATH
}

version=$(find Sources -name Version.swift -exec sed -n 's/.*var version: Literal { "\(.*\)" }$/\1/p' {} +)
[[ $version ]] || die 'no version in Version.swift'

mapfile -t rows < <(grep '^[^#]' cross/architectures)
architectures=("${rows[@]%% *}")

# target NAME: sets what differs for one architecture, and the flags for it. NAME is its name in the
# table, the kernel's, Debian's or Docker's.
target() {
  local row names words elf found=
  for row in "${rows[@]}"; do
    read -r arch kernel bits swift_triple musl_triple words elf limit libgcc names docker rpm \
      openwrt symbols qemu <<<"$row"
    # shellcheck disable=SC2053 # $kernel is a pattern.
    [[ $1 = "$arch" || $1 = $kernel || $1 = "${docker%%/*}" || :$names: = *:"$1":* ]] || continue
    found=$arch
    break
  done
  [[ $found ]] || die "unknown architecture '$1' (known: ${architectures[*]}, all)"
  [[ $qemu ]] || die "cross/architectures: the row of $arch lacks a column"
  IFS=: read -ra debian <<<"$names"
  machine=${elf%:big} byte_order=little
  [[ $elf = "$machine" ]] || byte_order=big
  [[ $words != - ]] || words=
  IFS=: read -ra abi <<<"$words"

  # The words that run a file for it on this machine.
  emulator=("qemu-${qemu%%:*}-static")
  [[ $qemu != *:* ]] || emulator+=(-cpu "${qemu#*:}")
  case $(uname -m):$arch in
  $kernel:* | x86_64:i686) emulator=() ;;
  esac

  # The machine that Swift compiles for, which is not always that of C.
  swift_machine=${swift_triple%%-*}

  # The shipped program is Embedded Swift: it has no runtime.
  swift_flags=(
    -enable-experimental-feature Embedded -Osize -Xfrontend -function-sections
    # This pass copies a function for each closure that is given to it, even with -Osize.
    -Xllvm -sil-disable-pass=closure-specialize
    # These make code longer before LLVM sees it, which then does the same with an eye on size.
    -Xllvm -sil-disable-pass=early-inline -Xllvm -sil-disable-pass=simplify-cfg
    -Xllvm -sil-disable-pass=loop-unroll
    # In a table of texts, each one needs a pointer and a relocation: 32 bytes on 64-bit machines.
    -Xllvm -switch-to-lookup=false
    # All traps of a function can be one: nobody uses the address to tell which it was.
    -Xfrontend -mergeable-traps
  )
  # The shorter instructions of ARM. The file is 74 KB smaller.
  [[ $arch != armv6 ]] || swift_flags+=(-Xcc -mthumb)
  # The compiler refuses Swift code that can allocate. On 32-bit machines it also refuses every
  # conversion to or from 64 bits, though it emits no allocation: there only cross/check looks.
  ((bits == 32)) || swift_flags+=(-no-allocations)
  c_flags=(
    "--target=$musl_triple" "${abi[@]}" -Oz -fPIE -fstack-protector-strong -ffunction-sections
    -fdata-sections
    # Nothing unwinds the stack.
    -fno-unwind-tables -fno-asynchronous-unwind-tables
  )
  # The stack keeps its alignment of 16 bytes only in functions that need it. Through the linker this is true
  # for Swift too. The file is 14 KB smaller.
  [[ $arch != i686 ]] || c_flags+=(-mstack-alignment=4)
  link_flags=(
    # Folds functions with the same code, such as those of two kinds of text. -O2 also folds a text into the
    # end of another.
    --gc-sections --icf=all -O2 --no-eh-frame-hdr -z now -z text -l:runtime.o
    # Tables for small switches, and splitting live ranges for speed, only make the file larger.
    -mllvm -min-jump-table-entries=6 -mllvm -split-spill-mode=size
    "-Map=$cache/$arch/map" "--why-extract=$cache/$arch/why-extract"
  )
  # Moves instructions that occur several times into functions. A knock then takes 2 % more of them. For
  # i686 it emits labels that cannot be resolved.
  [[ $arch = i686 ]] || link_flags+=(-mllvm -enable-machine-outliner=always)
  # Blocks laid out for speed need more jumps. The files are 1 KB smaller.
  [[ $arch != i686 && $arch != x86_64 ]] || link_flags+=(
    -mllvm -disable-block-placement -mllvm -tail-merge-size=2 -mllvm -join-splitedges
    -mllvm -x86-cmov-converter=false
  )
  # Tables of texts make the file for i686 larger, and that for x86_64 smaller.
  [[ $arch != i686 ]] || link_flags+=(-mllvm -switch-to-lookup=false)
  # Without these, the compiler links a dynamic file and says nothing.
  static_flags=("--target=$musl_triple" -static-pie --unwindlib=none)

  # For sed -E, on the text of LLVM's intermediate representation. Swift gives its texts no alignment. LLVM would
  # align each one of 17 bytes or more to 16, so that the file had 4 KB more of zeros.
  unalign='s/^(@.* = private unnamed_addr constant \[[0-9]+ x i8\] c".*")$/\1, align 1/'

  # Have clang read or write that text. With its passes it would give names to constants that the linker then does
  # not find.
  as_it_is=(-x ir -Xclang -disable-llvm-passes)

  file=dist/pyknock-$version-linux-$arch
  linked=$cache/$arch/release/pyknock
}
