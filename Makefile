# SPDX-License-Identifier: GPL-2.0
# `make help` lists what there is.
VERSION := 0.1.0
SOVERSION := 0
KERNELS := 6.1 6.12
# The one that `make demo`, `make vm` and `make icount` boot.
KERNEL ?= 6.12
PREFIX ?= /usr/local

B := build
ifeq ($(ARCH),arm64)
# Its own directory: objects of two architectures do not mix.
B := build/arm64
CROSS_COMPILE ?= aarch64-linux-gnu-
CC := $(CROSS_COMPILE)gcc
AR := $(CROSS_COMPILE)ar
export CROSS_COMPILE
endif
WARN := -Wall -Wextra -Werror
INCLUDES := -Iuapi -Ilib/include
override CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) $(INCLUDES) $(CFLAGS)

LIB_SRC := $(sort $(wildcard lib/*.c))
LIB_HDR := $(wildcard lib/*.h lib/include/*.h lib/include/evering/*.h uapi/linux/*.h)

all: lib

help:
	@echo 'Two commands for a new machine (Debian 12):'
	@echo '  make demo     boot a kernel in QEMU, load evering.ko, send a file through it'
	@echo '  make test     everything that must hold, on two kernels: N passed, N failed'
	@echo
	@echo 'Also:'
	@echo '  make vm       a shell in QEMU with the module loaded and the programs at hand'
	@echo '  make lib      the library: build/lib/libevering.{a,so}'
	@echo '  make modules  evering.ko for the running kernel (needs its headers)'
	@echo '  make install  the library and its header, to PREFIX ($(PREFIX))'
	@echo '  make bench    rings, payloads and topics against others, on this machine'
	@echo '  make icount   a blocking round trip against other IPC, in instructions'
	@echo '  make test ARCH=arm64  the same in QEMU for arm64, cross-built'
	@echo '  make test-long  thousands of kills on both kernels, about an hour'
	@echo '  make test-debug  on kernels that find memory errors, locking mistakes, leaks and'
	@echo '                   data races; builds them first, 20 minutes, once'
	@echo '  make fuzz     what the library reads of a peer, made at random, two minutes'
	@echo '  make fuzz-device  programs of system calls made at random, 20 minutes, on the'
	@echo '                   first of these kernels'
	@echo '  make model    the protocol model, with the large bounds'
	@echo '  make litmus   the orders of memory, in the kernel'\''s model of it; needs herd7'
	@echo '  make check-source  checkpatch, sparse, W=1, gcc, clang, cppcheck'
	@echo '  make coverage lines and branches of library and module that the tests run; builds'
	@echo '                the first debug kernel'
	@echo '  make setup    only install what the others need'
	@echo '  make clean    remove build/; downloads stay in ~/.cache/evering'

# ------------------------------------------------------------------- set-up

setup:
	@tools/setup.sh
ifeq ($(ARCH),arm64)
	@tools/setup.sh selftests/vm/arm64-packages
endif

# ------------------------------------------------------------------ library

lib: $(B)/lib/libevering.a $(B)/lib/libevering.so

$(B)/lib/%.o: lib/%.c $(LIB_HDR)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<

$(B)/lib/libevering.a: $(LIB_SRC:lib/%.c=$(B)/lib/%.o)
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/lib/libevering.so.$(VERSION): $(LIB_SRC:lib/%.c=$(B)/lib/%.o) lib/libevering.map
	$(CC) -shared -Wl,-soname,libevering.so.$(SOVERSION) \
		-Wl,--version-script=lib/libevering.map -Wl,-z,defs -o $@ $(filter %.o,$^)

$(B)/lib/libevering.so: $(B)/lib/libevering.so.$(VERSION)
	ln -sf libevering.so.$(VERSION) $(B)/lib/libevering.so.$(SOVERSION)
	ln -sf libevering.so.$(SOVERSION) $@

install: lib
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include/linux
	install -m 644 $(B)/lib/libevering.a $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(B)/lib/libevering.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib
	ln -sf libevering.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/libevering.so.$(SOVERSION)
	ln -sf libevering.so.$(SOVERSION) $(DESTDIR)$(PREFIX)/lib/libevering.so
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' lib/libevering.pc.in \
		>$(DESTDIR)$(PREFIX)/lib/pkgconfig/libevering.pc
	install -d $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 lib/evering.3 $(DESTDIR)$(PREFIX)/share/man/man3
	install -d $(DESTDIR)$(PREFIX)/include/evering
	install -m 644 lib/include/evering.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(wildcard lib/include/evering/*.h) $(DESTDIR)$(PREFIX)/include/evering
	install -m 644 uapi/linux/evering.h $(DESTDIR)$(PREFIX)/include/linux

# ------------------------------------------------------------------- module

KDIR ?= /lib/modules/$(shell uname -r)/build
modules:
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

# For a kernel of the virtual machine, in a copy of its own: before 6.13 the
# objects of two kernels cannot share a tree.
KMOD_SRC := Kbuild $(wildcard kmod/*) uapi/linux/evering.h
$(B)/kmod-%/evering.ko: $(KMOD_SRC)
	@mkdir -p $(@D)
	@cp -ru Kbuild kmod uapi $(@D)
	kdir=$$(selftests/vm/kernels.sh build $*) && \
		$(MAKE) -C $$kdir M=$(CURDIR)/$(@D) W=1 $(KMOD_FLAGS) modules

include tools/Makefile
include selftests/Makefile

clean:
	rm -rf $(B)

.PHONY: all help setup lib install modules clean
.DELETE_ON_ERROR:
.SECONDARY:
