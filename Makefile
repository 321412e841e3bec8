# On a fresh Debian 12 with the Swift toolchain, `make demo` and `make test` do all the set-up.
.DEFAULT_GOAL := build
.PHONY: build deps deps-build demo test test-quick bench instructions fuzz differential soak static test-static install
.PHONY: install-program deb rpm openwrt test-packages test-machine test-mips-kernel release completions
.PHONY: manual check clean
# `deps` comes before what needs the packages. What is slow runs in parallel by itself.
.NOTPARALLEL:

program = .build/embedded/release/pyknock
venv = .build/venv
swift = $(shell sh -c 'command -v swift')
# The toolchain's clang stands beside its swift.
clang = $(dir $(realpath $(swift)))clang

# The program as it is shipped, with the libraries of this machine.
build:
	@test -n "$(swift)" || { echo 'no swift in PATH: install the toolchain from swift.org' >&2; exit 1; }
	@echo '#include <sodium.h>' | $(clang) -fsyntax-only -x c - 2>/dev/null || \
	  { echo 'no sodium.h: install libsodium and its headers (on Debian: make deps)' >&2; exit 1; }
	swift build --configuration release --scratch-path .build/embedded --product pyknock \
	  $(foreach flag,$(shell cross/show swift_flags),-Xswiftc $(flag))

# The Debian packages that `make` and `make test` need. Installs those that are missing.
needed_by_build = libsodium-dev
needed_by_tests = python3-pytest python3-venv iproute2 util-linux nftables ipset iptables procps \
  openssh-server openssh-client netcat-openbsd coturn bash zsh fish mandoc python3-prometheus-client \
  btrfs-progs busybox-static socat strace pypy3
deps:
	@scripts/dependencies $(needed_by_build) $(needed_by_tests)

deps-build:
	@scripts/dependencies $(needed_by_build)

demo: deps-build build
	scripts/demo $(program)

# The end-to-end tests run PYKNOCK. The default is the program that `build` makes.
test test-quick: export PYKNOCK ?= $(CURDIR)/$(program)
test test-quick: export PYKNOCK_ORIGINAL = $(CURDIR)/$(venv)/bin
test: deps build $(venv)/original
	swift test
	scripts/test-end-to-end "$$PYKNOCK"

# The tests that do not wait for time to pass. Once all is built, they take about a minute.
test-quick: build $(venv)/original
	swift test
	PYTEST_ADDOPTS="-m 'not slow'" scripts/test-end-to-end "$$PYKNOCK"

# Compares the static file with other programs, and writes doc/benchmarks.md. Needs root.
bench: $(venv)/original
	cross/build
	@scripts/dependencies libsodium-dev gcc libc6-dev python3 iproute2 util-linux nftables \
	  netcat-openbsd fwknop-server fwknop-client gnuplot-nox
	apt-get --quiet=2 update  # Its lists tell the sizes of the other programs' packages.
	Benchmarks/run "$$(cross/show file)"

# Counts the instructions of the static file for x86_64, and compares them with
# Benchmarks/instructions.json. Needs root.
instructions:
	cross/build x86_64
	@scripts/dependencies valgrind python3 iproute2 util-linux
	unshare --net sh -ec 'ip link set lo up; exec "$$@"' sh Benchmarks/instructions

# Runs each fuzz target for SECONDS.
fuzz: SECONDS = 20
fuzz:
	Fuzz/run $(SECONDS)

# Compares version 2 of the datagrams with contrib/pyknock.py, for 100,000 random requests, and looks
# for patterns in as many. Once it is built, it takes less than a minute.
differential:
	swift build --configuration release --product differential
	/usr/bin/python3 Tests/Differential/run .build/release/differential

# Sends the server datagrams of all kinds, as fast as it takes them, for SECONDS. Needs root.
soak: SECONDS = 600
soak: deps-build build
	@scripts/dependencies python3-pytest util-linux
	PYKNOCK=$${PYKNOCK:-$(program)} /usr/bin/python3 Tests/EndToEnd/soak.py $(SECONDS)

# The Python original, which the tests talk to.
$(venv)/original:
	@scripts/dependencies python3-venv
	/usr/bin/python3 -m venv $(venv)
	$(venv)/bin/pip install --quiet pyknock==0.4.3
	touch $@

# Builds the static file for each architecture in ARCH, or for all. cross/architectures lists them.
ARCH = $(shell uname -m)
static:
	cross/build $(ARCH)

test-static: export PYKNOCK_ORIGINAL = $(CURDIR)/$(venv)/bin
test-static: $(venv)/original $(venv)/bin/kubernetes-validate
	@scripts/dependencies $(needed_by_tests) qemu-user-static podman runc catatonit \
	  docker-compose python3-yaml gcc libc6-dev
	scripts/test-static $(ARCH)

# The schemas of Kubernetes.
$(venv)/bin/kubernetes-validate: $(venv)/original
	$(venv)/bin/pip install --quiet kubernetes-validate==1.37.0

# Installs PROGRAM with its links, manual and completions. The default is the static file for ARCH if
# `make static` made it, and what `make` built otherwise.
PROGRAM = $(or $(wildcard $(shell cross/show file $(ARCH))),$(program))
PREFIX = /usr/local
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
BASHCOMPDIR = $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR = $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR = $(PREFIX)/share/fish/vendor_completions.d
applets = server client keygen status
install: install-program
	for page in man/*.[1-8]; do \
	  install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page || exit; \
	done
	rm -f $(DESTDIR)$(MANDIR)/man1/pyknock-server.1  # Before 1.2, a link that hides the page in section 8.
	install -D -m 644 completions/pyknock.bash $(DESTDIR)$(BASHCOMPDIR)/pyknock
	install -D -m 644 -t $(DESTDIR)$(ZSHCOMPDIR) completions/_pyknock
	install -D -m 644 -t $(DESTDIR)$(FISHCOMPDIR) completions/pyknock.fish
	for applet in $(applets); do \
	  ln -sf pyknock $(DESTDIR)$(BASHCOMPDIR)/pyknock-$$applet && \
	  ln -sf pyknock.fish $(DESTDIR)$(FISHCOMPDIR)/pyknock-$$applet.fish || exit; \
	done

# Installs only the program and its links.
install-program:
	@test -e $(PROGRAM) || { echo 'no $(PROGRAM): run make first' >&2; exit 1; }
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(BINDIR)/pyknock
	for applet in $(applets); do ln -sf pyknock $(DESTDIR)$(BINDIR)/pyknock-$$applet || exit; done

# Packages of the static files for ARCH.
deb: static
	packaging/debian/build $(ARCH)

rpm: static
	@scripts/dependencies rpm
	packaging/rpm/build $(ARCH)

openwrt: static
	packaging/openwrt/build $(ARCH)

# Tests the packages of all static files in dist/, in real systems. Needs root.
test-packages:
	@scripts/dependencies python3-pytest debootstrap lintian rpm minisign iproute2 util-linux procps \
	  nftables busybox-static shellcheck qemu-user-static
	PYKNOCK="$$PWD/$$(cross/show file)" \
	  /usr/bin/python3 -m pytest --quiet -p no:cacheprovider Tests/Packages

# Static files in emulated machines with kernels of Debian, which are only unpacked. For x86_64: sleep, a clock
# that is wrong, a disk that fails. For mipsel: what an emulator of system calls does not show.
needed_by_machines = python3-pytest busybox-static cpio
test-machine:
	cross/build x86_64 mipsel
	@scripts/dependencies $(needed_by_machines) qemu-system-x86 qemu-system-mips nftables ipset dmsetup e2fsprogs
	$(call in_machine,x86_64,)
	$(call in_machine,mipsel,/test_real_kernel.py)

# The same for big-endian MIPS, for which there is no Debian: builds a kernel and programs, once. Then runs
# end-to-end tests on Debian for mipsel. It takes an hour.
needed_on_debian = python3-pytest coreutils dash diffutils findutils grep iproute2 iptables mount \
  ncurses-base netcat-openbsd procps sed util-linux
test-mips-kernel:
	cross/build mipsel mips
	@scripts/dependencies $(needed_by_machines) qemu-system-mips dpkg-dev gcc libc6-dev bc bison flex \
	  gcc-mips-linux-gnu libc6-dev-mips-cross e2fsprogs
	$(call in_machine,mips,/test_real_kernel.py)
	Tests/Machine/system mipsel .build/machine/debian $(needed_on_debian)
	export DEBIAN=.build/machine/debian; $(call in_machine,mipsel,/test_debian.py -s)

in_machine = Tests/Machine/system $(1) .build/machine/$(1) && ARCH=$(1) PYKNOCK="$$(cross/show file $(1))" \
  /usr/bin/python3 -m pytest --quiet -p no:cacheprovider Tests/Machine$(2)

# Makes all files of a release from a clean checkout. MINISIGN_KEY=FILE signs them.
release:
	@scripts/dependencies rpm minisign
	packaging/release

# Writes the completions from the tables of options.
completions:
	swift run --quiet completions completions

# Writes the pages of the manual for reading on the web.
manual:
	scripts/render-manual doc/man

# Every linter, what the targets and their folders may use, and whether the completions and the rendered
# manual are up to date.
check: $(venv)/linters $(venv)/bin/vermin
	@scripts/dependencies libsodium-dev shellcheck mandoc
	swift format lint --strict --recursive Package.swift Sources Tests Fuzz Tools
	$(clang) -fsyntax-only -Wall -Wextra -Wpedantic -Werror \
	  $(patsubst %,-I%,$(wildcard Sources/*/include)) $(c_files)
	$(venv)/bin/clang-format --dry-run --Werror $(c_files)
	shellcheck --external-sources --source-path=SCRIPTDIR $(shell_files)
	$(venv)/bin/ruff check --quiet
	$(venv)/bin/vermin --quiet --no-tips --violations --target=3.8- contrib/pyknock.py
	scripts/check-targets
	scripts/count-words
	mkdir -p .build/completions
	swift run --quiet completions .build/completions
	diff -ru .build/completions completions || { echo 'run make completions' >&2; exit 1; }
	scripts/render-manual .build/man
	diff -ru .build/man doc/man || { echo 'run make manual' >&2; exit 1; }

c_files = $(shell git ls-files '*.c' '*.h')
# All files that name their shell, after #! or for shellcheck.
shell_files = $(shell git ls-files ':!*.swift' | xargs grep -lE '^.!/.*sh( |$$)|shellcheck shell=[a-z]')

$(venv)/linters: $(venv)/original
	$(venv)/bin/pip install --quiet clang-format==23.1.5 ruff==0.17.6
	touch $@

# Finds what an old Python does not have: in the syntax and in the library.
$(venv)/bin/vermin: $(venv)/original
	$(venv)/bin/python3 -m pip install --quiet vermin==1.9.2

clean:
	rm -rf .build dist
