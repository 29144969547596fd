# Two commands do everything on a fresh Debian 12 or newer, as root:
#   make demo    boots three virtual boxes and walks through the main job
#   make test    everything, with the tests in virtual boxes
# The others are their parts.

SHELL := /bin/bash
CARGO ?= cargo
VM_TESTS ?=
SEEDS ?= 2000
FROM ?= 0

.PHONY: demo test unit lint vm-test soak release install setup clean

demo: setup
	bash vm-tests/demo

test: lint unit vm-test

lint: setup
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --quiet -- -D warnings
	cd vm-tests && $(CARGO) fmt --check && $(CARGO) clippy --all-targets --quiet -- -D warnings

unit: setup
	$(CARGO) test --quiet
	cd vm-tests && $(CARGO) test --quiet

vm-test: release
	$(CARGO) test --quiet --no-run --test host_contract
	bash vm-tests/run $(VM_TESTS)

# Simulated clusters under faults, as many as asked for, on all cores.
soak: setup
	SEEDS=$(SEEDS) FROM=$(FROM) $(CARGO) run --quiet --profile soak --example soak

release: setup
	$(CARGO) build --release

install: release
	install -D -m 0755 target/release/holdfast $(DESTDIR)/usr/sbin/holdfast
	install -D -m 0644 systemd/holdfast.service $(DESTDIR)/usr/lib/systemd/system/holdfast.service
	install -D -m 0644 udev-rules/90-holdfast.rules $(DESTDIR)/usr/lib/udev/rules.d/90-holdfast.rules
	install -D -m 0644 README.md $(DESTDIR)/usr/share/doc/holdfast/README.md

setup:
	@bash vm-tests/setup

clean:
	-vm-tests/lab down
	$(CARGO) clean
	rm -rf vm-tests/target
