# SPDX-License-Identifier: GPL-2.0-or-later
#
# The front door: everything here hands over to configure, ninja and scripts.
# It must not know how anything is built.

BUILDDIR ?= build
export HP_BUILD := $(abspath $(BUILDDIR))

# Not from the environment, where it may name the machine.
ifeq ($(origin HOST),command line)
ifeq ($(filter svm vmx,$(HOST)),)
$(error HOST=$(HOST): the emulated hosts are svm and vmx)
endif
endif

.PHONY: all demo check torture bench-micro clean distclean help
.NOTPARALLEL:

all: $(BUILDDIR)/build.ninja
	@ninja -C $(BUILDDIR) --quiet
	@scripts/built-versions $(BUILDDIR)

# HOST=vmx runs it on a host with VMX, instead of SVM.
demo: all
ifeq ($(HOST),vmx)
	@scripts/build $(BUILDDIR) bochs
	@tests/outside/demo --vmx
else
	@tests/outside/demo
endif

SEED ?= 1

# TESTS="suite or test names" runs only those; SCALE=full with the large counts;
# SEED=N repeats, or varies, what is random in them.
SCALE ?=
check: $(BUILDDIR)/build.ninja
	@SCALE=$(SCALE) SEED=$(SEED) tests/run-checks $(BUILDDIR) $(TESTS)

# COUNT=N interrupts at least, caused in an order that SEED=N decides; HOST=vmx
# as above.
COUNT ?= 1000000
torture: all
ifeq ($(HOST),vmx)
	@scripts/build $(BUILDDIR) bochs
endif
	@tests/outside/torture $(HP_BUILD) $(COUNT) $(SEED) $(filter vmx,$(HOST))

# Instructions per operation of a guest, hypervisor by hypervisor.
bench-micro: all
	@tests/outside/bench-micro

$(BUILDDIR)/build.ninja:
	@./configure --builddir=$(BUILDDIR)

# What was built goes; sources and the configuration stay.
clean:
	@[ ! -d $(BUILDDIR) ] || scripts/clean $(BUILDDIR)

distclean:
	@rm -rf $(BUILDDIR)

help:
	@echo "make demo       build, then show a guest's VM exits with kvm and with hpkvm; HOST=vmx on Intel's"
	@echo "make check      build, then run every test; TESTS=... suites or tests by name; SCALE=full; SEED=N"
	@echo "make torture    build, then count interrupts under stress: COUNT=N of them at least (50000 or more), SEED=N; HOST=vmx"
	@echo "make bench-micro  build, then count the instructions of a guest's operations"
	@echo "make            build only"
	@echo "make clean      remove what was built; make distclean: sources and configuration too"
	@echo "./configure --help    other sources, chosen versions, another build directory (BUILDDIR=...), QEMU only"
