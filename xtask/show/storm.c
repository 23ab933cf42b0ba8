/* A preload library: every thread of a program takes a signal each millisecond, with a handler and without SA_RESTART, so that
 * every system call that waits comes back with EINTR again and again.
 *
 * A thread is given a timer of its own when it begins (SIGEV_THREAD_ID): the main thread by the constructor, others by
 * pthread_create, which stands before the C library's; a forked child, to which no timer passes, by pthread_atfork. A child made
 * with the bare system call clone(2) stays calm until it executes a program. SIGURG is ignored by default, so one that is under
 * way while a program starts harms nobody.
 *
 *   STORM_COUNT   file to count in: a page that all processes map, so that a killed one has counted too; none: no storm
 *   STORM_UNDER   only programs below this folder: a shell or Python has its own ways with EINTR
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { SIGNAL = SIGURG, PERIOD_NS = 1000000 };

/* As storm.sh reads it: signals handled, system calls that they interrupted, threads and processes that had a timer. */
static struct counts { unsigned long signals, interrupted, threads, processes; } *counts;
static pthread_key_t timer_of_thread;

static void count(unsigned long *what) { __atomic_fetch_add(what, 1, __ATOMIC_RELAXED); }

/* Where the thread goes on: a system call that ended with EINTR has that in the register of its result. */
static int was_interrupted(const ucontext_t *context)
{
#if defined __x86_64__
	return context->uc_mcontext.gregs[REG_RAX] == -EINTR;
#elif defined __aarch64__
	return context->uc_mcontext.regs[0] == (unsigned long long)-EINTR;
#else
	return 0;
#endif
}

static void handle(int number, siginfo_t *from, void *context)
{
	(void)number, (void)from;
	count(&counts->signals);
	if (was_interrupted(context))
		count(&counts->interrupted);
}

static void end_timer(void *timer) { timer_delete((timer_t)((long)timer - 1)); }

static void begin_timer(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL };
	event._sigev_un._tid = syscall(SYS_gettid);
	struct itimerspec every = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	timer_t timer;
	int before = errno;
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
		pthread_setspecific(timer_of_thread, (void *)((long)timer + 1));
		timer_settime(timer, 0, &every, NULL);
		count(&counts->threads);
	}
	errno = before;
}

/* The child has one thread, and none of its parent's timers. */
static void begin_child(void)
{
	count(&counts->processes);
	begin_timer();
}

static int is_calm(void)
{
	char path[4096] = "";
	const char *under = getenv("STORM_UNDER");
	return readlink("/proc/self/exe", path, sizeof path - 1) < 0 || (under && strncmp(path, under, strlen(under)));
}

__attribute__((constructor)) static void begin(void)
{
	const char *file = getenv("STORM_COUNT");
	if (!file || is_calm())
		return;
	int fd = open(file, O_RDWR | O_CLOEXEC);
	void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (page == MAP_FAILED) /* another user, another root: it storms, and is not counted */
		page = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || pthread_key_create(&timer_of_thread, end_timer) || pthread_atfork(NULL, NULL, begin_child))
		return;
	counts = page;
	struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	if (sigaction(SIGNAL, &action, NULL) == 0)
		begin_child();
}

struct start { void *(*run)(void *); void *argument; };

static void *run_in_storm(void *boxed)
{
	struct start start = *(struct start *)boxed;
	free(boxed);
	begin_timer();
	return start.run(start.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
	static int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	if (!next)
		next = dlsym(RTLD_NEXT, "pthread_create");
	struct start *boxed = counts ? malloc(sizeof *boxed) : NULL;
	if (!boxed)
		return next(thread, attributes, run, argument);
	*boxed = (struct start){ run, argument };
	int failed = next(thread, attributes, run_in_storm, boxed);
	if (failed)
		free(boxed);
	return failed;
}
