// SPDX-License-Identifier: GPL-2.0
/*
 * Faults on purpose, to show that the runner of the tests would see them.
 * Never part of evering.ko.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/string.h>

static char *how = "";
module_param(how, charp, 0);
MODULE_PARM_DESC(how, "oops, warn or bug");

static int __init plant_init(void)
{
	if (!strcmp(how, "oops"))
		WRITE_ONCE(*(int *)8, 1);
	else if (!strcmp(how, "warn"))
		WARN(1, "planted\n");
	else if (!strcmp(how, "bug"))
		BUG();
	return -EINVAL;
}
module_init(plant_init);

MODULE_DESCRIPTION("Planted faults");
MODULE_LICENSE("GPL");
