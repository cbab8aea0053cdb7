/* An HTTP proxy on 127.0.0.1 that stands for the way to S3: UPSTREAM_PORT LATENCY_MS MB_PER_S.
 *
 * Each request waits LATENCY_MS before it is passed on; each connection carries at most MB_PER_S
 * million bytes a second in each direction. Prints its port. Then, for each line on standard
 * input, prints how many requests of each kind came since the last: "LIST n HEAD n GET n PUT n
 * POST n DELETE n". Ends at the end of standard input. A thread for each connection and direction.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, STACK = 128 << 10, BACKLOG = 1024 };

static const char *const KINDS[] = {"LIST", "HEAD", "GET", "PUT", "POST", "DELETE"};
enum { LIST, HEAD, GET, KIND_COUNT = 6 };
static atomic_long counts[KIND_COUNT];

static int upstream_port;
static double latency, rate; /* seconds; bytes a second */

struct connection {
    int client, server;
    atomic_int users;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void rest(double seconds) {
    if (seconds <= 0) return;
    struct timespec t = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

/* Wait until `size` more bytes may pass; `free_at` is when the line is free again. */
static void pace(double *free_at, size_t size) {
    double t = now();
    if (*free_at < t - 0.05) *free_at = t - 0.05; /* an idle line saves up 50 ms, no more */
    *free_at += size / rate;
    rest(*free_at - t);
}

static int pass_on(int to, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(to, data, size, MSG_NOSIGNAL);
        if (sent <= 0) return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

static void count(const char *head, const char *end) {
    const char *line_end = memchr(head, '\r', (size_t)(end - head));
    size_t length = (size_t)((line_end ? line_end : end) - head);
    for (int kind = HEAD; kind < KIND_COUNT; kind++) {
        size_t name = strlen(KINDS[kind]);
        if (length <= name || memcmp(head, KINDS[kind], name) || head[name] != ' ') continue;
        int lists = kind == GET && (memmem(head, length, "prefix=", 7) ||
                                    memmem(head, length, "list-type=", 10) ||
                                    memmem(head, length, "max-keys=", 9));
        atomic_fetch_add(&counts[lists ? LIST : kind], 1);
        return;
    }
}

/* Bytes of the body that follows a request's head. */
static size_t body_size(const char *head, const char *end) {
    static const char name[] = "\ncontent-length:";
    for (const char *at = head; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        if ((size_t)(end - at) > sizeof name && !strncasecmp(at, name, sizeof name - 1))
            return strtoull(at + sizeof name - 1, NULL, 10);
    return 0;
}

static void release(struct connection *both) {
    shutdown(both->client, SHUT_RDWR);
    shutdown(both->server, SHUT_RDWR);
    if (atomic_fetch_sub(&both->users, 1) > 1) return;
    close(both->client);
    close(both->server);
    free(both);
}

static void *answers(void *given) {
    struct connection *both = given;
    char *block = malloc(BLOCK);
    double free_at = now();
    ssize_t size;
    while ((size = recv(both->server, block, BLOCK, 0)) > 0) {
        pace(&free_at, (size_t)size);
        if (!pass_on(both->client, block, (size_t)size)) break;
    }
    free(block);
    release(both);
    return NULL;
}

static void *requests(void *given) {
    struct connection *both = given;
    char *block = malloc(BLOCK);
    size_t held = 0, body = 0; /* bytes in the block; bytes of a body that are still to come */
    double free_at = now();
    for (;;) {
        ssize_t size = recv(both->client, block + held, BLOCK - held, 0);
        if (size <= 0) break;
        held += (size_t)size;
        size_t ready = 0; /* bytes of the block that may pass */
        while (ready < held) {
            if (body) {
                size_t part = body < held - ready ? body : held - ready;
                ready += part;
                body -= part;
                continue;
            }
            char *head = block + ready;
            char *end = memmem(head, held - ready, "\r\n\r\n", 4);
            if (!end) break;
            count(head, end);
            rest(latency);
            free_at = now();
            body = body_size(head, end + 2);
            ready += (size_t)(end + 4 - head);
        }
        if (!ready && held == BLOCK) break; /* no request has a head as long as that */
        if (ready) {
            pace(&free_at, ready);
            if (!pass_on(both->server, block, ready)) break;
            held -= ready;
            memmove(block, block + ready, held);
        }
    }
    free(block);
    release(both);
    return NULL;
}

static struct sockaddr_in local(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void *serve(void *given) {
    int listener = *(int *)given, on = 1;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&small, STACK);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        int server = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = local(upstream_port);
        if (connect(server, (struct sockaddr *)&address, sizeof address)) {
            close(client);
            close(server);
            continue;
        }
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *both = malloc(sizeof *both);
        both->client = client;
        both->server = server;
        atomic_init(&both->users, 2);
        pthread_t thread;
        pthread_create(&thread, &small, requests, both);
        pthread_create(&thread, &small, answers, both);
    }
    return NULL;
}

int main(int given, char **words) {
    if (given != 4) {
        fprintf(stderr, "usage: lag UPSTREAM_PORT LATENCY_MS MB_PER_S\n");
        return 2;
    }
    upstream_port = atoi(words[1]);
    latency = atof(words[2]) / 1e3;
    rate = atof(words[3]) * 1e6;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = local(0);
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, BACKLOG) ||
        getsockname(listener, (struct sockaddr *)&address, &size)) {
        perror("lag");
        return 1;
    }
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &listener);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        for (int kind = 0; kind < KIND_COUNT; kind++)
            printf("%s %ld ", KINDS[kind], atomic_exchange(&counts[kind], 0));
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
