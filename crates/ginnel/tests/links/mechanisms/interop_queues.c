/* A program that knows nothing of ginnel: POSIX and System V message queues as the manual pages have them.
 *
 *   queues mq|sysv create NAME
 *   queues mq|sysv send NAME NUMBER TEXT    NUMBER is the priority, or the type
 *   queues mq|sysv recv NAME                prints number and text
 *   queues mq|sysv remove NAME
 */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

static char text[8193];

static int failed(const char *what)
{
	perror(what);
	return 1;
}

static int posix(const char *what, const char *name, char **rest)
{
	if (!strcmp(what, "remove"))
		return mq_unlink(name) ? failed("mq_unlink") : 0;
	int flags = strcmp(what, "create") ? O_RDWR : O_RDWR | O_CREAT | O_EXCL;
	mqd_t queue = mq_open(name, flags, 0600, NULL);
	if (queue == (mqd_t)-1)
		return failed("mq_open");
	if (!strcmp(what, "send") && mq_send(queue, rest[1], strlen(rest[1]), atoi(rest[0])))
		return failed("mq_send");
	if (!strcmp(what, "recv")) {
		unsigned priority;
		ssize_t length = mq_receive(queue, text, 8192, &priority);
		if (length < 0)
			return failed("mq_receive");
		printf("%u %.*s\n", priority, (int)length, text);
	}
	return 0;
}

static int systemv(const char *what, const char *name, char **rest)
{
	struct { long type; char text[8193]; } message;
	int queue = msgget(atoi(name), strcmp(what, "create") ? 0 : IPC_CREAT | IPC_EXCL | 0600);
	if (queue < 0)
		return failed("msgget");
	if (!strcmp(what, "remove"))
		return msgctl(queue, IPC_RMID, NULL) ? failed("msgctl") : 0;
	if (!strcmp(what, "send")) {
		message.type = atol(rest[0]);
		strcpy(message.text, rest[1]);
		if (msgsnd(queue, &message, strlen(rest[1]), 0))
			return failed("msgsnd");
	}
	if (!strcmp(what, "recv")) {
		ssize_t length = msgrcv(queue, &message, 8192, 0, 0);
		if (length < 0)
			return failed("msgrcv");
		printf("%ld %.*s\n", message.type, (int)length, message.text);
	}
	return 0;
}

int main(int count, char **words)
{
	if (count < 4)
		return 2;
	return (strcmp(words[1], "mq") ? systemv : posix)(words[2], words[3], words + 4);
}
