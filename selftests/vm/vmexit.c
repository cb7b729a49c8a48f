// SPDX-License-Identifier: GPL-2.0
/*
 * Ends the virtual machine with a status that no panic and no clean power-off
 * can produce: QEMU's isa-debug-exit makes 2 * value + 1 of what it is sent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <unistd.h>

#define PORT	0xf4
#define BASE	16	/* so that "pass" is 33 and not 1 */

int main(int argc, char **argv)
{
	if (argc != 2 || argv[1][0] == '-') {
		fprintf(stderr, "usage: vmexit STATUS	end the virtual machine\n");
		return 2;
	}
	sync();
	if (ioperm(PORT, 1, 1)) {
		perror("vmexit: ioperm");
		return 1;
	}
	outb(BASE + atoi(argv[1]), PORT);
	return 1;
}
