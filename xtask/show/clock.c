/* A preload library: whoever asks for the time of day gets it three hours early and three hours late in turn. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t shift(void)
{
	static unsigned asked;
	return __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED) % 2 ? 3 * 3600 : -3 * 3600;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*next)(clockid_t, struct timespec *);
	if (!next)
		next = dlsym(RTLD_NEXT, "clock_gettime");
	int failed = next(clock, now);
	if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += shift();
	return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	int failed = syscall(SYS_gettimeofday, now, zone);
	if (!failed)
		now->tv_sec += shift();
	return failed;
}

time_t time(time_t *into)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return into ? (*into = now.tv_sec) : now.tv_sec;
}
