/* Sockets: with whom. */
#include "audit/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage room;
};

static void unix_text(const union address *a, socklen_t size, char *out, size_t room) {
    size_t length = size > offsetof(struct sockaddr_un, sun_path)
                        ? size - offsetof(struct sockaddr_un, sun_path)
                        : 0;
    out[0] = '\0';
    if (length == 0)
        return;
    if (a->un.sun_path[0] == '\0') /* abstract */
        wf_fmt(out, room, "@%.*s", (int)length - 1, a->un.sun_path + 1);
    else
        wf_fmt(out, room, "%.*s", (int)length, a->un.sun_path);
}

static void address_text(const union address *a, socklen_t size, char *out, size_t room) {
    char text[INET6_ADDRSTRLEN];
    if (a->any.sa_family == AF_INET)
        wf_fmt(out, room, "%s:%u", inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof text),
               ntohs(a->in.sin_port));
    else if (a->any.sa_family == AF_INET6)
        wf_fmt(out, room, "[%s]:%u", inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof text),
               ntohs(a->in6.sin6_port));
    else if (a->any.sa_family == AF_UNIX)
        unix_text(a, size, out, room);
    else
        out[0] = '\0';
}

static int option(int fd, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? -1 : value;
}

static const char *kind_text(int domain, int type) {
    bool stream = type == SOCK_STREAM;
    switch (domain) {
    case AF_UNIX:
        return stream ? "unix" : "unix datagram";
    case AF_INET:
    case AF_INET6:
        return type == SOCK_RAW ? "raw" : stream ? "tcp" : "udp";
    case AF_NETLINK:
        return "netlink";
    case AF_PACKET:
        return "packet";
    case AF_VSOCK:
        return "vsock";
    default:
        return "other";
    }
}

/* Who made the other end, as the kernel noted it when they were connected. */
static pid_t peer_pid(int fd, int domain) {
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;
    if (domain != AF_UNIX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return 0;
    return peer.pid;
}

void wa_socket(const struct wa_sink *sink, int fd) {
    union address address = { 0 };
    socklen_t size = sizeof address;
    char text[160] = "";
    int domain = option(fd, SO_DOMAIN), type = option(fd, SO_TYPE);
    struct wa_fact fact = { .id = fd, .name = kind_text(domain, type), .detail = text };
    if (type == SOCK_RAW || domain == AF_PACKET)
        wa_say(sink, WA_PRIVILEGED, fd, fact.name, "raw network packets");
    if (option(fd, SO_ACCEPTCONN) > 0) {
        fact.kind = WA_LISTENING;
        getsockname(fd, &address.any, &size);
    } else if (getpeername(fd, &address.any, &size) == 0) {
        fact.kind = WA_CONNECTED;
        fact.size = (uint64_t)peer_pid(fd, domain);
    } else {
        fact.kind = WA_UNCONNECTED;
        size = sizeof address;
        getsockname(fd, &address.any, &size);
    }
    address_text(&address, size, text, sizeof text);
    sink->each(sink->arg, &fact);
}
