/* What a socket would say, without waiting for it.
 *
 * Plain C11.  One call of the system, short enough to be made with the GIL held: to let go of it costs
 * a thread among others its turn.
 */
#ifndef FASTPOOL_SOCKET_H
#define FASTPOOL_SOCKET_H

#include <stdbool.h>

#ifdef _WIN32

/* Not known here, so: perhaps. */
static inline bool fp_socket_is_silent(int fd) {
    (void)fd;
    return false;
}

#else
#include <poll.h>

/* Whether there is nothing to read, no end of the stream and no error; false in doubt. */
static inline bool fp_socket_is_silent(int fd) {
    struct pollfd look = {.fd = fd, .events = POLLIN | POLLPRI};
    return fd >= 0 && poll(&look, 1, 0) == 0;
}

#endif
#endif
