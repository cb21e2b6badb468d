/* A link between two network namespaces: rate, queue, loss and delay, the same both ways, on real packets.
 *
 *   link DELAY_US RATE_BITS_A_SECOND QUEUE_BYTES LOSS_PER_MILLION
 *
 * Makes a TUN device `near` where it is started and `far` in a network namespace of its own, which lives as long as
 * the process. Says "ready" when both are there. Each line on standard input is answered with the packets taken from
 * the far side so far, those lost on purpose, and those that found the queue full. Ends with its standard input.
 *
 * Threads: one for each direction, which shares nothing but the counts; main only listens to standard input.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST_BYTES = 2048 }; /* of one packet; the devices have an MTU of 1500 */
static const int64_t SECOND_NS = 1000000000;
/* A busy thread wakes this often, not for each packet: at 1 Gbit/s there is one every 12 us. */
static const int64_t REST_NS = 100000;

struct packet {
    struct packet *next;
    int64_t due_ns;
    ssize_t length;
    unsigned char bytes[];
};

struct way {
    int from, to;
    uint32_t random;
    int64_t free_ns; /* when the last byte that was accepted has left the queue */
    struct packet *first, **last;
    atomic_long taken, lost, refused;
};

static int64_t delay_ns, rate, queue_bytes, loss;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* xorshift: the same sequence in every run. */
static int is_lost(struct way *way) {
    way->random ^= way->random << 13;
    way->random ^= way->random >> 17;
    way->random ^= way->random << 5;
    return way->random % 1000000 < loss;
}

static void accept_packet(struct way *way, const unsigned char *bytes, ssize_t length) {
    int64_t now = now_ns(), begin = way->free_ns > now ? way->free_ns : now;
    way->taken++;
    if ((begin - now) * rate / 8 / SECOND_NS + length > queue_bytes) {
        way->refused++;
        return;
    }
    way->free_ns = begin + length * 8 * SECOND_NS / rate;
    if (is_lost(way)) { /* after the queue: what is lost has used the link */
        way->lost++;
        return;
    }
    struct packet *packet = malloc(sizeof *packet + length);
    if (!packet)
        err(1, "memory");
    *packet = (struct packet){NULL, way->free_ns + delay_ns, length};
    memcpy(packet->bytes, bytes, length);
    *way->last = packet;
    way->last = &packet->next;
}

static int take(struct way *way) {
    unsigned char bytes[MOST_BYTES];
    ssize_t length;
    int count = 0;
    while (count < 256 && (length = read(way->from, bytes, sizeof bytes)) > 0) {
        accept_packet(way, bytes, length);
        count++;
    }
    return count;
}

static int deliver(struct way *way) {
    int count = 0;
    int64_t now = now_ns();
    for (struct packet *packet; (packet = way->first) && packet->due_ns <= now; count++) {
        if (write(way->to, packet->bytes, packet->length) < 0)
            warn("a packet could not be delivered");
        if (!(way->first = packet->next))
            way->last = &way->first;
        free(packet);
    }
    return count;
}

static void wait_for_work(struct way *way, int is_busy) {
    int64_t rest = way->first ? way->first->due_ns - now_ns() : SECOND_NS;
    if (is_busy && rest > 0) {
        nanosleep(&(struct timespec){0, rest < REST_NS ? rest : REST_NS}, NULL);
    } else if (rest > 0) {
        struct pollfd readable = {way->from, POLLIN, 0};
        ppoll(&readable, 1, &(struct timespec){rest / SECOND_NS, rest % SECOND_NS}, NULL);
    }
}

static void *carry(void *argument) {
    struct way *way = argument;
    /* Without the right to it the link is only less exact when the machine is busy. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1});
    prctl(PR_SET_TIMERSLACK, 1);
    for (;;) {
        int count = take(way);
        count += deliver(way);
        wait_for_work(way, count > 0);
    }
    return NULL;
}

static int open_tun(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, name);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        err(1, "a TUN device cannot be made");
    return fd;
}

int main(int count, char **words) {
    if (count != 5)
        errx(2, "usage: link DELAY_US RATE_BITS_A_SECOND QUEUE_BYTES LOSS_PER_MILLION");
    delay_ns = atoll(words[1]) * 1000;
    rate = atoll(words[2]);
    queue_bytes = atoll(words[3]);
    loss = atoll(words[4]);
    int near = open_tun("near");
    if (unshare(CLONE_NEWNET) < 0)
        err(1, "a network namespace cannot be made");
    int far = open_tun("far");
    static struct way down = {.random = 2463534242}, up = {.random = 88172645};
    down.from = up.to = far;
    down.to = up.from = near;
    down.last = &down.first;
    up.last = &up.first;
    pthread_t threads[2];
    if (pthread_create(&threads[0], NULL, carry, &down) || pthread_create(&threads[1], NULL, carry, &up))
        errx(1, "a thread cannot be started");
    puts("ready");
    fflush(stdout);
    for (char line[16]; fgets(line, sizeof line, stdin); fflush(stdout))
        printf("%ld %ld %ld\n", down.taken, down.lost, down.refused);
    return 0;
}
