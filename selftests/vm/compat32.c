// SPDX-License-Identifier: GPL-2.0
/*
 * A 32-bit program that makes one call, for selftests/compat.c.
 *
 *	compat32 ioctl FILE REQUEST SIZE
 *	compat32 mmap FILE LENGTH PROT FLAGS PAGE-OFFSET
 *
 * FILE is a descriptor, or a path to open.  All numbers are decimal.  Exit status:
 * 0, or errno; KEPT where a call that failed has changed something.
 *
 * Without a C library: a compiler for 64 bits makes it as it is.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#ifdef __x86_64__
#error "to be compiled with -m32"
#endif

#define KEPT	200
#define USAGE	201

static unsigned char args[4096];

/* The sixth is passed in the frame pointer, which the compiler has its own use for. */
static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	long in[2] = { nr, f }, ret;

	__asm__ volatile("push %%ebp\n\t"
			 "mov 4(%%eax), %%ebp\n\t"
			 "mov (%%eax), %%eax\n\t"
			 "int $0x80\n\t"
			 "pop %%ebp"
			 : "=a" (ret)
			 : "0" (in), "b" (a), "c" (b), "d" (c), "S" (d), "D" (e)
			 : "memory");
	return ret;
}

static unsigned long number(const char *text)
{
	unsigned long n = 0;

	while (*text)
		n = n * 10 + (unsigned long)(*text++ - '0');
	return n;
}

static int file(const char *text)
{
	if (*text == '/')
		return (int)call(__NR_open, (long)text, O_RDWR, 0, 0, 0, 0);
	return (int)number(text);
}

/* The lowest descriptor that is free. */
static long lowest(void)
{
	long fd = call(__NR_dup, 0, 0, 0, 0, 0, 0);

	call(__NR_close, fd, 0, 0, 0, 0, 0);
	return fd;
}

static int try_ioctl(int fd, unsigned long request, unsigned long size)
{
	long free_fd = lowest(), ret;
	unsigned int i;

	*(unsigned int *)args = size;
	ret = call(__NR_ioctl, fd, (long)request, (long)args, 0, 0, 0);
	if (ret >= 0)
		return 0;
	if (lowest() != free_fd || *(unsigned int *)args != size)
		return KEPT;
	for (i = 4; i < sizeof(args); i++)
		if (args[i])
			return KEPT;
	return (int)-ret;
}

static int try_mmap(int fd, unsigned long len, long prot, long flags, unsigned long offset)
{
	long at = call(__NR_mmap2, 0, (long)len, prot, flags, fd, (long)offset);
	volatile char *p = (volatile char *)at;

	if ((unsigned long)at > -4096UL)
		return (int)-at;
	if (prot & PROT_WRITE)
		p[len - 1] = 1;
	(void)p[0];
	return 0;
}

__attribute__((used)) static void start(long *stack)
{
	char **argv = (char **)(stack + 1);
	long argc = stack[0];
	int status = USAGE, fd;

	fd = argc > 2 ? file(argv[2]) : 0;
	if (fd < 0)
		status = -fd;
	else if (argc == 5 && argv[1][0] == 'i')
		status = try_ioctl(fd, number(argv[3]), number(argv[4]));
	else if (argc == 7 && argv[1][0] == 'm')
		status = try_mmap(fd, number(argv[3]), (long)number(argv[4]),
				  (long)number(argv[5]), number(argv[6]));
	for (;;)
		call(__NR_exit, status, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %esp, %eax\n\tpush %eax\n\tcall start");
