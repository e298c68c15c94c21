# SPDX-License-Identifier: MIT
# One Makefile, not recursive: it only calls itself for another kind of build (SAN, the fuzzers).
# `make help` lists what a person types; V=1 shows the commands.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# The implicit rules would only be searched in vain.
MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
V       ?= 0
Q       := $(if $(filter 0,$(V)),@,)

# SAN=address,undefined or SAN=thread: an instrumented build in a folder of its own.
SAN ?=
comma := ,
B := build$(if $(SAN),/$(subst $(comma),-,$(SAN)))

VERSION := 0.1.0
# Debian ships llhttp as C sources, other distributions as a library.
LLHTTP_SRCS := $(wildcard /usr/share/llhttp/*.c)
PKGS    := libbpf openssl libcrypt liburing libnghttp2 libmnl libsodium libelf zlib libbrotlienc libbrotlidec libzstd \
	libcap libpcre2-8 jansson libseccomp $(if $(LLHTTP_SRCS),,libllhttp)
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wswitch-enum -Wvla -Wmissing-prototypes -Wstrict-prototypes
HARDEN := -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 -fPIE \
	$(if $(filter x86_64-%,$(MACHINE)),-fcf-protection) \
	$(if $(filter aarch64-%,$(MACHINE)),-mbranch-protection=standard)
OPT := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all,-O2 $(HARDEN))
CPPFLAGS += -Iuser -Iinclude -Ibuild/gen -I/usr/share/include/llhttp -D_GNU_SOURCE -DMITM_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 -g -fvisibility=hidden -pthread $(OPT) $(WARN)
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN),-pie -Wl,-z,relro,-z,now)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS   = $(shell pkg-config --libs $(PKGS))

SRCS := $(wildcard user/*/*.c)
OBJS := $(SRCS:%.c=$(B)/%.o) $(LLHTTP_SRCS:/usr/share/llhttp/%.c=$(B)/llhttp/%.o)
MAIN := $(B)/user/app/main.o
LIB  := $(B)/libmitm.a
LIB_OBJS := $(filter-out $(MAIN),$(OBJS))

UNIT  := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/*_test.c tests/playbook/*_test.c tests/sim/*_test.c))
THREADS := $(filter %_thread_test,$(UNIT))
SCRIPT_TESTS := $(wildcard tests/scripts/*_test)
FUZZ  := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ_NAMES := $(FUZZ:$(B)/tests/fuzz/%_fuzz=%)
# What the tests of one folder share is linked into those alone.
TEST_FOLDERS := unit playbook sim
$(foreach f,$(TEST_FOLDERS),$(eval TESTLIB_$(f) := \
	$(patsubst %.c,$(B)/%.o,$(filter-out %_test.c,$(wildcard tests/$(f)/*.c)))))
TESTLIB := $(foreach f,$(TEST_FOLDERS),$(TESTLIB_$(f)))
SELFTEST_BINS := $(patsubst %.c,$(B)/%,$(wildcard selftests/*.c))
SELFTESTS := $(wildcard selftests/*_test.sh selftests/*_test.py) $(SELFTEST_BINS)
BENCH_BINS := $(patsubst %.c,build/%,$(wildcard scripts/bench/*.c))
SKELS := $(patsubst bpf/%.bpf.c,build/gen/%.skel.h,$(wildcard bpf/*.bpf.c))

CHECK_B := build/address-undefined

help:
	@echo "sudo make demo    install what is missing, build, and watch a real program's HTTPS"
	@echo "sudo make test    everything: check (no privilege) and selftest (root); the last line counts"
	@echo "make deps         install the build's and tests' packages (scripts/install-deps --print: dnf, pacman)"
	@echo "make all          build/mitm-bpf"
	@echo "make run ARGS=…   build and run it"
	@echo "make check        unit, playbook, simulator, failing-malloc tests, tidy, include table; ASan+UBSan"
	@echo "make check-threads  the tests that cross threads, under ThreadSanitizer"
	@echo "make sim          SEEDS=20000 sessions over a simulated network, from seed FIRST=1 on"
	@echo "make selftest     kernel and end-to-end tests (root, TAP)"
	@echo "make interop      clients and servers in Python, Go and Node (root; uses their registries, else skips)"
	@echo "make fuzz         every fuzz target for FUZZ_SECONDS (default 20) each; FUZZ_ONLY=name for one"
	@echo "make bench        side by side with other proxies; writes docs/PERFORMANCE.md's table"
	@echo "make bench steering   what steering costs (root; alias bench-steering)"
	@echo "make tidy         style and size limits; make install / uninstall (PREFIX, DESTDIR); make clean"
	@echo "variables         SAN=address,undefined | SAN=thread   V=1   WERROR=1"

# ---- what must be there before anything is compiled

all: $(B)/mitm-bpf

build/checked-deps: scripts/install-deps
	@mkdir -p build
	$(Q)scripts/install-deps --check
	@touch $@

deps:
	$(Q)scripts/install-deps

# ---- the program

# Rewritten only when its content differs, so that other flags, or a source that went away, rebuild what they must.
$(B)/flags: FORCE | build/checked-deps
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(LDFLAGS))' | cmp -s - $@ || \
		echo '$(subst ','\'',$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(LDFLAGS))' > $@

$(B)/objects: FORCE | build/checked-deps
	@mkdir -p $(@D)
	@echo '$(LIB_OBJS) $(TESTLIB)' | cmp -s - $@ || echo '$(LIB_OBJS) $(TESTLIB)' > $@

$(B)/mitm-bpf: $(MAIN) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(MAIN) $(LIB) $(LDLIBS)

$(LIB): $(LIB_OBJS) $(B)/objects
	@mkdir -p $(@D)
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJS)

$(B)/%.o: %.c $(B)/flags | $(SKELS)
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(if $(WERROR),-Werror) -MMD -MP -c -o $@ $<

$(B)/llhttp/%.o: /usr/share/llhttp/%.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w -c -o $@ $<

# BPF: one object per file, embedded as a skeleton. bpf/vmlinux.h is a reduced, committed header (CO-RE).
build/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h include/abi/*.h) | build/checked-deps
	@mkdir -p $(@D)
	@echo "  BPF     $@"
	$(Q)$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Werror -Iinclude -Ibpf -I/usr/include/$(MULTIARCH) -c -o $@ $<
	$(Q)llvm-strip -g $@

build/gen/%.skel.h: build/bpf/%.bpf.o
	@mkdir -p $(@D)
	@echo "  SKEL    $@"
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

run: all
	$(Q)$(B)/mitm-bpf $(ARGS)

# ---- tests

define link_tests
$(B)/tests/$(1)/%_test: $(B)/tests/$(1)/%_test.o $(TESTLIB_$(1)) $(LIB)
	@echo "  LINK    $$@"
	$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$< $(TESTLIB_$(1)) $(LIB) $$(LDLIBS) -lcmocka
endef
$(foreach f,$(TEST_FOLDERS),$(eval $(call link_tests,$(f))))

# FUZZER is set by `make fuzz`; without it a target replays its corpus, which is part of `make check`.
$(B)/tests/fuzz/%_fuzz: $(B)/tests/fuzz/%_fuzz.o $(if $(FUZZER),,$(B)/tests/fuzz/replay.o) $(LIB)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) $(FUZZER) -o $@ $(filter %.o,$^) $(LIB) $(LDLIBS)

$(B)/selftests/%: $(B)/selftests/%.o $(LIB)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS) -lcmocka

$(B)/scripts/bench/steering: $(B)/scripts/bench/steering.o $(LIB)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS)

$(B)/scripts/bench/%: $(B)/scripts/bench/%.o
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -lssl -lcrypto

tests-built: $(LIB) $(UNIT) $(FUZZ)
threads-built: $(THREADS)
fuzz-built: $(FUZZ)
selftests-built: $(B)/mitm-bpf $(SELFTEST_BINS)
bench-built: $(if $(wildcard user/app/main.c),build/mitm-bpf) $(BENCH_BINS)

check:
	+$(Q)$(MAKE) --no-print-directory SAN=address,undefined WERROR=1 tests-built
	$(Q)selftests/run --jobs $$(nproc) --timeout 50 --tally build/tally/check \
		$(UNIT:$(B)/%=$(CHECK_B)/%) \
		$(foreach f,$(FUZZ_NAMES),'$(CHECK_B)/tests/fuzz/$(f)_fuzz tests/fuzz/corpus/$(f)') \
		$(SCRIPT_TESTS) 'scripts/tidy --tap' 'scripts/check-includes --tap --objects $(CHECK_B)'

check-threads:
	+$(Q)$(MAKE) --no-print-directory SAN=thread WERROR=1 threads-built
	$(Q)selftests/run --timeout 120 --tally build/tally/check-threads $(THREADS:$(B)/%=build/thread/%)

selftest:
	$(Q)[ $$(id -u) = 0 ] || { echo "selftest needs root: run sudo make selftest" >&2; exit 1; }
	+$(Q)$(MAKE) --no-print-directory WERROR=1 selftests-built
	$(Q)selftests/run --timeout 180 --tally build/tally/selftest $(SELFTESTS)

interop:
	$(Q)[ $$(id -u) = 0 ] || { echo "interop needs root: run sudo make interop" >&2; exit 1; }
	+$(Q)$(MAKE) --no-print-directory WERROR=1 all
	$(Q)selftests/interop/prepare
	$(Q)selftests/run --timeout 900 --tally build/tally/interop selftests/interop/interop_test.py

test:
	+$(Q)MAKE='$(MAKE)' scripts/test

# Whole sessions over a simulated network, two processes at a time.
SEEDS ?= 20000
FIRST ?= 1
sim:
	+$(Q)$(MAKE) --no-print-directory SAN=address,undefined WERROR=1 $(CHECK_B)/tests/sim/proxy_test
	$(Q)SIM_SEEDS=$(SEEDS) SIM_FIRST=$(FIRST) SIM_JOBS=$(or $(JOBS),2) $(CHECK_B)/tests/sim/proxy_test

FUZZ_SECONDS ?= 20
fuzz:
	+$(Q)$(MAKE) --no-print-directory B=build/fuzz SAN=fuzzer-no-link,address,undefined CC=$(CLANG) \
		FUZZER=-fsanitize=fuzzer fuzz-built
	$(Q)scripts/fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_ONLY),--only $(FUZZ_ONLY)) $(if $(JOBS),--jobs $(JOBS))

tidy:
	$(Q)scripts/tidy

# ---- for people

demo:
	$(Q)scripts/install-deps --check 2>/dev/null || scripts/install-deps
	+$(Q)$(MAKE) --no-print-directory all
	$(Q)scripts/demo

# `make bench steering`: what steering costs; alone, the proxies side by side.
bench: $(if $(filter steering,$(MAKECMDGOALS)),steering,bench-proxies)

bench-proxies:
	+$(Q)$(MAKE) --no-print-directory bench-built
	$(Q)scripts/bench/run $(BENCH_ARGS)

steering: bench-steering
	@:

bench-steering:
	+$(Q)$(MAKE) --no-print-directory build/mitm-bpf build/scripts/bench/steering
	$(Q)scripts/bench/run-steering

install: all
	install -D -m 755 $(B)/mitm-bpf $(DESTDIR)$(PREFIX)/bin/mitm-bpf
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/mitm-bpf/README.md
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/mitm-bpf/LICENSE

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/mitm-bpf
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/mitm-bpf

clean:
	$(Q)rm -rf build

FORCE:
.PHONY: help all deps run check check-threads selftest interop test sim fuzz bench tidy demo install uninstall clean \
	tests-built threads-built fuzz-built selftests-built bench-built bench-proxies bench-steering steering FORCE
.SECONDARY:

-include $(shell find $(B) -name '*.d' 2>/dev/null)
