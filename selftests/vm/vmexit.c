// SPDX-License-Identifier: GPL-2.0
/*
 * Ends the virtual machine with a status that no panic and no clean power-off
 * can produce: QEMU's isa-debug-exit makes 2 * value + 1 of what it is sent, and
 * where there is semihosting instead, it is told the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BASE	16	/* so that "pass" is 33 and not 1 */

#if defined(__aarch64__)

#define SYS_EXIT_EXTENDED	0x20
#define APPLICATION_EXIT	0x20026

static int end(int value)
{
	unsigned long block[2] = { APPLICATION_EXIT, 2 * value + 1 };
	register unsigned long op __asm__("x0") = SYS_EXIT_EXTENDED;
	register unsigned long *argument __asm__("x1") = block;

	__asm__ __volatile__("hlt #0xf000" : "+r" (op) : "r" (argument) : "memory");
	return 1;
}

#else

#include <sys/io.h>

#define PORT	0xf4

static int end(int value)
{
	if (ioperm(PORT, 1, 1)) {
		perror("vmexit: ioperm");
		return 1;
	}
	outb(value, PORT);
	return 1;
}

#endif

int main(int argc, char **argv)
{
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: vmexit STATUS	end the virtual machine\n");
		return 2;
	}
	sync();
	return end(BASE + atoi(argv[1]));
}
