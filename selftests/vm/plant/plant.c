// SPDX-License-Identifier: GPL-2.0
/*
 * Faults on purpose, to show that the runner of the tests, and the detectors of
 * the debug kernels, would see them.  Never part of evering.ko.
 */
#include <linux/atomic.h>
#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/panic.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>

static char *how = "";
module_param(how, charp, 0);
MODULE_PARM_DESC(how, "the fault; see plants[]");

/* The compiler must not see what is wrong. */
static volatile int zero;

static void plant_oops(void)
{
	WRITE_ONCE(*(int *)8, 1);
}

static void plant_warn(void)
{
	WARN(1, "planted\n");
}

static void plant_bug(void)
{
	BUG();
}

/* ------------------------------------------------------------------ memory */

static void plant_bounds(void)
{
	char *p = kmalloc(40, GFP_KERNEL);

	if (p)
		WRITE_ONCE(p[40 + zero], 1);
	kfree(p);
}

static void plant_vmalloc(void)
{
	char *p = vmalloc(PAGE_SIZE + 100);

	if (p)
		WRITE_ONCE(p[PAGE_SIZE + 100 + zero], 1);
	vfree(p);
}

static void plant_free(void)
{
	char *p = kmalloc(40, GFP_KERNEL);
	char *q = p;

	OPTIMIZER_HIDE_VAR(q);
	kfree(p);
	if (q)
		WRITE_ONCE(q[zero], 1);
}

static void plant_leak(void)
{
	int i;

	/* Several: a stale pointer on a stack may hide one. */
	for (i = 0; i < 16; i++) {
		void *p = kmalloc(40, GFP_KERNEL);

		OPTIMIZER_HIDE_VAR(p);
	}
}

static void plant_list(void)
{
	struct list_head a, b;

	INIT_LIST_HEAD(&a);
	list_add(&b, &a);
	a.next = &a;
	list_del(&b);
}

static void plant_expired(struct timer_list *timer)
{
}

struct plant_object {
	struct timer_list timer;
};

/* Freed with its timer running. */
static void plant_object(void)
{
	struct plant_object *object = kmalloc(sizeof(*object), GFP_KERNEL);

	if (!object)
		return;
	timer_setup(&object->timer, plant_expired, 0);
	mod_timer(&object->timer, jiffies + 100 * HZ);
	kfree(object);
}

static void plant_shift(void)
{
	zero = 1 << (40 + zero);
}

static void plant_index(void)
{
	int numbers[4] = {};

	OPTIMIZER_HIDE_VAR(numbers[0]);
	zero = numbers[4 + zero];
}

/* ----------------------------------------------------------------- locking */

static DEFINE_MUTEX(plant_a);
static DEFINE_MUTEX(plant_b);
static DEFINE_SPINLOCK(plant_lock);
static int __rcu *plant_pointer;

static void plant_atomic(void)
{
	void *p;

	spin_lock(&plant_lock);
	p = kmalloc(40, GFP_KERNEL);
	spin_unlock(&plant_lock);
	kfree(p);
}

/* Nobody is ever blocked: the order alone is wrong. */
static void plant_order(void)
{
	mutex_lock(&plant_a);
	mutex_lock(&plant_b);
	mutex_unlock(&plant_b);
	mutex_unlock(&plant_a);
	mutex_lock(&plant_b);
	mutex_lock(&plant_a);
	mutex_unlock(&plant_a);
	mutex_unlock(&plant_b);
}

static void plant_tick(struct timer_list *timer)
{
	spin_lock(&plant_lock);
	spin_unlock(&plant_lock);
}

static DEFINE_TIMER(plant_timer, plant_tick);

/* The timer might interrupt whoever holds the lock. */
static void plant_softirq(void)
{
	spin_lock(&plant_lock);
	spin_unlock(&plant_lock);
	mod_timer(&plant_timer, jiffies + 1);
	msleep(200);
}

static void plant_rcu(void)
{
	if (rcu_dereference(plant_pointer))
		zero = 0;
}

static void plant_preempt(void)
{
	zero = smp_processor_id() & 0;
}

static int plant_stuck(void *unused)
{
	set_current_state(TASK_UNINTERRUPTIBLE);
	schedule();
	return 0;
}

static void plant_hung(void)
{
	struct task_struct *task = kthread_run(plant_stuck, NULL, "plant");

	ssleep(30);
	if (!IS_ERR(task))
		wake_up_process(task);
}

static void plant_lockup(void)
{
	u64 end = get_jiffies_64() + 30 * HZ;

	preempt_disable();
	while (get_jiffies_64() < end)
		cpu_relax();
	preempt_enable();
}

/* ------------------------------------------------------------------- races */

static int plant_shared;
static int plant_held;

static int plant_racer(void *unused)
{
	while (!kthread_should_stop()) {
		plant_shared++;
		cond_resched();
	}
	return 0;
}

/* Nothing keeps the store inside: it should be a release. */
static int plant_unlocker(void *unused)
{
	while (!kthread_should_stop()) {
		if (!cmpxchg_acquire(&plant_held, 0, 1)) {
			plant_shared++;
			WRITE_ONCE(plant_held, 0);
		}
		cond_resched();
	}
	return 0;
}

static void plant_two(int (*function)(void *))
{
	struct task_struct *task[2];
	int i;

	for (i = 0; i < 2; i++)
		task[i] = kthread_run(function, NULL, "plant");
	ssleep(5);
	for (i = 0; i < 2; i++)
		if (!IS_ERR(task[i]))
			kthread_stop(task[i]);
}

static void plant_race(void)
{
	plant_two(plant_racer);
}

static void plant_barrier(void)
{
	plant_two(plant_unlocker);
}

/* ------------------------------------------- what no detector says by itself */

static void plant_lockdep(void)
{
	debug_locks_off();
}

static void plant_taint(void)
{
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
}

static const struct {
	const char *how;
	void (*plant)(void);
} plants[] = {
	{ "oops", plant_oops },
	{ "warn", plant_warn },
	{ "bug", plant_bug },
	{ "bounds", plant_bounds },
	{ "vmalloc", plant_vmalloc },
	{ "free", plant_free },
	{ "leak", plant_leak },
	{ "list", plant_list },
	{ "object", plant_object },
	{ "shift", plant_shift },
	{ "index", plant_index },
	{ "atomic", plant_atomic },
	{ "order", plant_order },
	{ "softirq", plant_softirq },
	{ "rcu", plant_rcu },
	{ "preempt", plant_preempt },
	{ "hung", plant_hung },
	{ "lockup", plant_lockup },
	{ "race", plant_race },
	{ "barrier", plant_barrier },
	{ "lockdep", plant_lockdep },
	{ "taint", plant_taint },
};

static int __init plant_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(plants); i++)
		if (!strcmp(how, plants[i].how))
			plants[i].plant();
	return -EINVAL;
}
module_init(plant_init);

MODULE_DESCRIPTION("Planted faults");
MODULE_LICENSE("GPL");
