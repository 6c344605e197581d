// Preloaded into a server that cannot be told an address: where it would listen on every address of the machine, it listens on
// 127.0.0.1. scripts/aws-local compiles it for DynamoDB Local.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int bind(int descriptor, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
    if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in own;
        memcpy(&own, address, sizeof own);
        if (own.sin_addr.s_addr == htonl(INADDR_ANY)) {
            own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            return next(descriptor, (const struct sockaddr *)&own, sizeof own);
        }
    }
    if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 own;
        memcpy(&own, address, sizeof own);
        // The socket is of both families: this is 127.0.0.1 as such a socket has it.
        if (IN6_IS_ADDR_UNSPECIFIED(&own.sin6_addr) && inet_pton(AF_INET6, "::ffff:127.0.0.1", &own.sin6_addr) == 1) {
            return next(descriptor, (const struct sockaddr *)&own, sizeof own);
        }
    }
    return next(descriptor, address, length);
}
