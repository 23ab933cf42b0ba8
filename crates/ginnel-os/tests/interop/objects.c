/* A program that knows nothing of ginnel: semaphores and shared memory as the manual pages have them, one call a run.
 *
 *   objects sem NAME ACT...       sem_open(3)
 *   objects unnamed NAME ACT...   a sem_t at byte 64 of a shared memory object NAME, sem_init(3) with pshared
 *   objects sysv-sem KEY ACT...   semop(2) on the first of its set
 *   objects shm NAME ACT...       shm_open(3)
 *   objects sysv-shm KEY ACT...   shmat(2)
 *
 * Acts of a semaphore: `create VALUE`, `post`, `wait`, `try`, `timed MS`, `value`; `hold` of System V takes with SEM_UNDO, says so, and
 * keeps it until its input ends. Of memory: `create BYTES`, `write TEXT` (also the end of the text), `read`. Of all: `remove`.
 * What was taken is told as "taken", what was not as the reason.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PLACE = 64, BYTES = 4096 };

static int failed(const char *what)
{
	perror(what);
	return 1;
}

static int is(const char *what, const char *act) { return !strcmp(what, act); }

static int told(int result)
{
	puts(result == 0 ? "taken" : errno == EAGAIN ? "would block" : errno == ETIMEDOUT ? "timed out" : strerror(errno));
	return 0;
}

static struct timespec in_ms(const char *ms)
{
	struct timespec at;
	clock_gettime(CLOCK_REALTIME, &at);
	long long ns = at.tv_nsec + atoll(ms) * 1000000;
	at.tv_sec += ns / 1000000000;
	at.tv_nsec = ns % 1000000000;
	return at;
}

static int semaphore(sem_t *at, const char *act, char **rest)
{
	if (is(act, "post"))
		return sem_post(at) ? failed("sem_post") : 0;
	if (is(act, "wait"))
		return told(sem_wait(at));
	if (is(act, "try"))
		return told(sem_trywait(at));
	if (is(act, "timed")) {
		struct timespec until = in_ms(rest[0]);
		return told(sem_timedwait(at, &until));
	}
	int value;
	if (sem_getvalue(at, &value))
		return failed("sem_getvalue");
	printf("%d\n", value);
	return 0;
}

static int named(const char *name, const char *act, char **rest)
{
	if (is(act, "remove"))
		return sem_unlink(name) ? failed("sem_unlink") : 0;
	if (is(act, "create"))
		return sem_open(name, O_CREAT | O_EXCL, 0600, atoi(rest[0])) == SEM_FAILED ? failed("sem_open") : 0;
	sem_t *at = sem_open(name, 0);
	return at == SEM_FAILED ? failed("sem_open") : semaphore(at, act, rest);
}

/* The object, mapped; a new one with these bytes. */
static char *mapped(const char *name, const char *act, off_t bytes)
{
	int file = shm_open(name, is(act, "create") ? O_RDWR | O_CREAT | O_EXCL : O_RDWR, 0600);
	struct stat about;
	if (file < 0 || (is(act, "create") && ftruncate(file, bytes)) || fstat(file, &about))
		return MAP_FAILED;
	return mmap(NULL, about.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

static int unnamed(const char *name, const char *act, char **rest)
{
	if (is(act, "remove"))
		return shm_unlink(name) ? failed("shm_unlink") : 0;
	char *memory = mapped(name, act, BYTES);
	if (memory == MAP_FAILED)
		return failed("shm_open");
	sem_t *at = (sem_t *)(memory + PLACE);
	if (is(act, "create"))
		return sem_init(at, 1, atoi(rest[0])) ? failed("sem_init") : 0;
	return semaphore(at, act, rest);
}

static int set(const char *key, const char *act, char **rest)
{
	int id = semget(atoi(key), is(act, "create"), is(act, "create") ? IPC_CREAT | IPC_EXCL | 0600 : 0);
	if (id < 0)
		return failed("semget");
	struct sembuf take = { 0, -1, 0 }, post = { 0, 1, 0 };
	if (is(act, "remove"))
		return semctl(id, 0, IPC_RMID) ? failed("semctl") : 0;
	if (is(act, "create"))
		return semctl(id, 0, SETVAL, atoi(rest[0])) ? failed("semctl") : 0;
	if (is(act, "post"))
		return semop(id, &post, 1) ? failed("semop") : 0;
	if (is(act, "wait"))
		return told(semop(id, &take, 1));
	if (is(act, "try")) {
		take.sem_flg = IPC_NOWAIT;
		return told(semop(id, &take, 1));
	}
	if (is(act, "timed")) {
		long ms = atol(rest[0]);
		struct timespec limit = { ms / 1000, ms % 1000 * 1000000 };
		int result = semtimedop(id, &take, 1, &limit);
		if (result && errno == EAGAIN)
			errno = ETIMEDOUT;
		return told(result);
	}
	if (is(act, "hold")) {
		take.sem_flg = SEM_UNDO;
		told(semop(id, &take, 1));
		fflush(stdout);
		return getchar() != EOF;
	}
	printf("%d\n", semctl(id, 0, GETVAL));
	return 0;
}

static int text(char *memory, const char *act, char **rest)
{
	if (is(act, "write"))
		strcpy(memory, rest[0]);
	if (is(act, "read"))
		puts(memory);
	return 0;
}

static int object(const char *name, const char *act, char **rest)
{
	if (is(act, "remove"))
		return shm_unlink(name) ? failed("shm_unlink") : 0;
	char *memory = mapped(name, act, is(act, "create") ? atoi(rest[0]) : 0);
	return memory == MAP_FAILED ? failed("shm_open") : text(memory, act, rest);
}

static int segment(const char *key, const char *act, char **rest)
{
	int make = is(act, "create");
	int id = shmget(atoi(key), make ? atoi(rest[0]) : 0, make ? IPC_CREAT | IPC_EXCL | 0600 : 0);
	if (id < 0)
		return failed("shmget");
	if (is(act, "remove"))
		return shmctl(id, IPC_RMID, NULL) ? failed("shmctl") : 0;
	char *memory = shmat(id, NULL, 0);
	return memory == (char *)-1 ? failed("shmat") : text(memory, act, rest);
}

int main(int count, char **words)
{
	if (count < 4)
		return 2;
	alarm(30);
	int (*kind)(const char *, const char *, char **) = is(words[1], "sem") ? named
		: is(words[1], "unnamed") ? unnamed
		: is(words[1], "sysv-sem") ? set
		: is(words[1], "shm") ? object
		: segment;
	return kind(words[2], words[3], words + 4);
}
