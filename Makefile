# SPDX-License-Identifier: MIT
# One Makefile, not recursive. `make help` lists what a person types; V=1 shows the commands.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
CLANG   ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
V       ?= 0
Q       := $(if $(filter 0,$(V)),@,)

# SAN=address,undefined or SAN=thread: an instrumented build in a folder of its own.
SAN ?=
comma := ,
B := build$(if $(SAN),/$(subst $(comma),-,$(SAN)))

VERSION := 0.1.0
PKGS    := libbpf openssl liburing libnghttp2 libmnl libsodium libelf zlib libcap

WARN := -Wall -Wextra -Wshadow -Wswitch-enum -Wvla -Wmissing-prototypes -Wstrict-prototypes $(if $(WERROR),-Werror)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2 -fPIE
OPT := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all,-O2 $(HARDEN))
CPPFLAGS += -Iuser -Iinclude -I$(B)/gen -Ibuild/gen -I/usr/share/include/llhttp -D_GNU_SOURCE -DMITM_VERSION='"$(VERSION)"'
CFLAGS   += -std=gnu11 -g -fvisibility=hidden -pthread $(OPT) $(WARN)
LDFLAGS  += -pthread $(if $(SAN),-fsanitize=$(SAN),-pie -Wl,-z,relro,-z,now)
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
LDLIBS   = $(shell pkg-config --libs $(PKGS))

SRCS := $(wildcard user/*/*.c)
OBJS := $(SRCS:%.c=$(B)/%.o) $(B)/llhttp/llhttp.o $(B)/llhttp/api.o $(B)/llhttp/http.o
MAIN := $(B)/user/app/main.o
LIB  := $(B)/libmitm.a

UNIT  := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/*_test.c tests/playbook/*_test.c tests/sim/*_test.c))
FUZZ  := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
TESTLIB := $(patsubst %.c,$(B)/%.o,$(filter-out %_test.c,$(wildcard tests/unit/*.c tests/playbook/*.c tests/sim/*.c)))
SELFTEST_BINS := $(patsubst %.c,$(B)/%,$(wildcard selftests/*.c))
BENCH_BINS := $(patsubst %.c,$(B)/%,$(wildcard scripts/bench/*.c))
SKELS := $(patsubst bpf/%.bpf.c,build/gen/%.skel.h,$(wildcard bpf/*.bpf.c))

help:
	@echo "sudo make demo    install what is missing, build, and watch a real program's HTTPS"
	@echo "sudo make test    everything: check (no privilege) and selftest (root)"
	@echo "make deps         install the build's and tests' packages (apt; names printed for dnf, pacman)"
	@echo "make all          build/mitm-bpf"
	@echo "make run ARGS=…   build and run it"
	@echo "make check        unit, playbook, simulator, failing-malloc tests, tidy, include table; ASan+UBSan"
	@echo "make selftest     kernel and end-to-end tests (root, TAP)"
	@echo "make fuzz         every fuzz target for FUZZ_SECONDS (default 20) each"
	@echo "make bench        side by side with other proxies; writes docs/PERFORMANCE.md's table"
	@echo "make tidy         style and size limits; make install / uninstall (PREFIX, DESTDIR); make clean"
	@echo "variables         SAN=address,undefined | SAN=thread   V=1   WERROR=1"

all: build/checked-deps $(B)/mitm-bpf

build/checked-deps: scripts/install-deps
	@mkdir -p build
	$(Q)scripts/install-deps --check
	@touch $@

deps:
	$(Q)scripts/install-deps

$(B)/mitm-bpf: $(MAIN) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(MAIN) $(LIB) $(LDLIBS)

$(LIB): $(filter-out $(MAIN),$(OBJS))
	@mkdir -p $(@D)
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/%.o: %.c | $(SKELS)
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w -c -o $@ $<

# BPF: one object per file, embedded as a skeleton. bpf/vmlinux.h is a reduced, committed header (CO-RE).
build/bpf/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h include/abi/*.h)
	@mkdir -p $(@D)
	@echo "  BPF     $@"
	$(Q)$(CLANG) -target bpf -mcpu=v3 -O2 -g -Wall -Werror -Iinclude -Ibpf -I/usr/include/x86_64-linux-gnu -c -o $@ $<
	$(Q)llvm-strip -g $@

build/gen/%.skel.h: build/bpf/%.bpf.o
	@mkdir -p $(@D)
	@echo "  SKEL    $@"
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(B)/tests/%_test: $(B)/tests/%_test.o $(TESTLIB) $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(TESTLIB) $(LIB) $(LDLIBS) -lcmocka -ljansson

$(B)/selftests/%: $(B)/selftests/%.o $(LIB)
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< $(LIB) $(LDLIBS)

$(B)/scripts/bench/%: $(B)/scripts/bench/%.o
	@echo "  LINK    $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -lssl -lcrypto

tests-built: $(UNIT)
selftests-built: $(B)/mitm-bpf $(SELFTEST_BINS)
bench-built: build/mitm-bpf $(BENCH_BINS)

run: all
	$(Q)$(B)/mitm-bpf $(ARGS)

clean:
	$(Q)rm -rf build

.PHONY: help all deps run clean tests-built selftests-built bench-built
.SECONDARY:

-include $(shell find build -name '*.d' 2>/dev/null)
