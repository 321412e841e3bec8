# Two commands on a fresh Debian 12 with the Swift toolchain: `make demo`, `make test`.
.DEFAULT_GOAL := build
.PHONY: build demo test bench instructions fuzz soak static test-static install
.PHONY: deb rpm openwrt test-packages release check clean

# The shipped program is Embedded Swift: no runtime, no heap allocation in Swift code.
embedded = --configuration release --scratch-path .build/embedded --product pyknock \
  -Xswiftc -enable-experimental-feature -Xswiftc Embedded -Xswiftc -wmo -Xswiftc -Osize \
  -Xswiftc -no-allocations -Xswiftc -Xllvm -Xswiftc -sil-disable-pass=closure-specialize
program = .build/embedded/release/pyknock
venv = .build/venv

build:
	@scripts/dependencies libsodium-dev
	swift build $(embedded)

demo: build
	scripts/demo $(program)

needed_by_tests = python3-pytest iproute2 util-linux nftables ipset iptables procps \
  openssh-server openssh-client coturn bash zsh fish mandoc python3-prometheus-client

# The program that the end-to-end tests run: PYKNOCK, or the one that `build` makes.
test: export PYKNOCK ?= $(CURDIR)/$(program)
test: export PYKNOCK_ORIGINAL = $(CURDIR)/$(venv)/bin
test: build $(venv)/original
	@scripts/dependencies $(needed_by_tests)
	swift test
	/usr/bin/python3 -m pytest --quiet -p no:cacheprovider Tests/EndToEnd

# The static file beside its peers, into doc/benchmarks.md. As root.
bench: $(venv)/original
	cross/build
	@scripts/dependencies libsodium-dev gcc libc6-dev python3 iproute2 util-linux nftables \
	  netcat-openbsd fwknop-server fwknop-client gnuplot-nox
	apt-get --quiet=2 update  # What the others take is known from its lists.
	bash -ec '. cross/settings.sh; target "$$(uname -m)"; exec Benchmarks/run "$$file"'

# What the static file for x86_64 executes, against the figures in Benchmarks/instructions.json. As root.
instructions:
	cross/build x86_64
	@scripts/dependencies valgrind python3 iproute2 util-linux
	unshare --net sh -ec 'ip link set lo up; exec "$$@"' sh Benchmarks/instructions

# Each fuzz target for as long.
fuzz: SECONDS = 20
fuzz:
	Fuzz/run $(SECONDS)

# All kinds of datagrams as fast as the server takes them, for as long. As root.
soak: SECONDS = 600
soak: build
	@scripts/dependencies python3-pytest util-linux
	PYKNOCK=$${PYKNOCK:-$(program)} /usr/bin/python3 Tests/EndToEnd/soak.py $(SECONDS)

# The Python original, which the tests talk to.
$(venv)/original:
	@scripts/dependencies python3-venv
	/usr/bin/python3 -m venv $(venv)
	$(venv)/bin/pip install --quiet pyknock==0.4.3
	touch $@

# One file with all in it, for the architectures in ARCH: x86_64 aarch64 armv6 i686 riscv64, or all.
ARCH = $(shell uname -m)
static:
	cross/build $(ARCH)

test-static: export PYKNOCK_ORIGINAL = $(CURDIR)/$(venv)/bin
test-static: $(venv)/original $(venv)/bin/kubernetes-validate
	@scripts/dependencies $(needed_by_tests) qemu-user-static podman runc catatonit \
	  docker-compose python3-yaml gcc libc6-dev
	scripts/test-static $(patsubst all,x86_64 aarch64 armv6 i686 riscv64,$(ARCH))

# The schemas of Kubernetes.
$(venv)/bin/kubernetes-validate: $(venv)/original
	$(venv)/bin/pip install --quiet kubernetes-validate==1.37.0

# What `make static` has made, with its links, manual and completions.
PREFIX = /usr/local
share = $(DESTDIR)$(PREFIX)/share
bash = $(share)/bash-completion/completions
fish = $(share)/fish/vendor_completions.d
install:
	cross/install $(DESTDIR)$(PREFIX)/bin $(ARCH)
	install -D -m 644 -t $(share)/man/man1 man/pyknock.1
	install -D -m 644 -t $(share)/man/man5 man/pyknock.conf.5
	install -D -m 644 completions/pyknock.bash $(bash)/pyknock
	install -D -m 644 -t $(fish) completions/pyknock.fish
	install -D -m 644 -t $(share)/zsh/site-functions completions/_pyknock
	for applet in server client keygen; do \
	  ln -sf pyknock.1 $(share)/man/man1/pyknock-$$applet.1; \
	  ln -sf pyknock $(bash)/pyknock-$$applet; \
	  ln -sf pyknock.fish $(fish)/pyknock-$$applet.fish; \
	done

# Packages of what `make static` makes, for the same ARCH.
deb: static
	packaging/debian/build $(ARCH)

rpm: static
	@scripts/dependencies rpm
	packaging/rpm/build $(ARCH)

openwrt: static
	packaging/openwrt/build $(ARCH)

# The packages of all architectures that `make static` has made, in real systems. As root.
test-packages:
	@scripts/dependencies python3-pytest debootstrap lintian rpm minisign iproute2 util-linux procps \
	  nftables busybox-static shellcheck qemu-user-static
	bash -ec '. cross/settings.sh; target "$$(uname -m)"; export PYKNOCK="$$root/$$file"; \
	  exec /usr/bin/python3 -m pytest --quiet -p no:cacheprovider Tests/Packages'

# All files of a release, from a clean checkout. MINISIGN_KEY=FILE signs them.
release:
	@scripts/dependencies rpm minisign
	packaging/release

check:
	@scripts/dependencies shellcheck
	swift format lint --strict --recursive Package.swift Sources Tests Fuzz
	shellcheck --external-sources --source-path=SCRIPTDIR \
	  $(filter-out %.c,$(wildcard scripts/* cross/*)) completions/pyknock.bash .ci/run Fuzz/run \
	  $(wildcard packaging/*/build packaging/debian/p*) packaging/release \
	  packaging/openwrt/root/etc/init.d/pyknock Tests/Packages/procd.sh
	scripts/check-targets

clean:
	rm -rf .build dist
