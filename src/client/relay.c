/* Bytes between the caller's terminal and the program's. */
#include "client/terminal.h"

#include "base/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_ROOM (WF_RELAY_ROOM / 8)
#define WAIT_MS 20
#define WAIT_MAX_MS 320
#define ROUNDS 64         /* reads before others have a turn */
#define FLUSHED_INPUT 0x1 /* TIOCPKT_FLUSHREAD */
#define INPUT_QUEUE 0     /* TCIFLUSH */

/* Output. The master is in packet mode: the first byte of each read is 0, or says what happened. */

static bool both_add_returns(const struct wf_terminal *t) {
    const unsigned both = WF_OUTPUT_PROCESSED | WF_OUTPUT_NEWLINE;
    return (t->modes.output & both) == both && (t->outer.output & both) == both;
}

/* Each terminal puts a carriage return before each newline: the program's has done it, so it is
 * taken away again where the caller's is going to do the same. Leaves `data[from..to)`, with a
 * return at its end held back until it is known what follows; `from` is at least 1. */
static void take_returns_away(struct wf_terminal *t) {
    uint8_t *data = t->out, *to = data + t->out_from, *end = data + t->out_to;
    uint8_t *from = to;
    if (t->held && *from != '\n')
        data[--t->out_from] = '\r'; /* into the place of the packet's first byte */
    t->held = false;
    while (from < end) {
        uint8_t *cr = memchr(from, '\r', (size_t)(end - from));
        size_t plain = (size_t)((cr != NULL ? cr : end) - from);
        if (to != from)
            memmove(to, from, plain);
        to += plain;
        from += plain;
        if (cr == NULL)
            break;
        from++;
        if (from == end)
            t->held = true;
        else if (*from != '\n')
            *to++ = '\r';
    }
    t->out_to = (size_t)(to - data);
}

/* Whether all that is pending could be written. A terminal that is gone takes everything. */
static bool write_pending(struct wf_terminal *t) {
    while (t->out_from < t->out_to) {
        ssize_t put = write(t->real, t->out + t->out_from, t->out_to - t->out_from);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN)
            return false;
        t->out_from = put < 0 ? t->out_to : t->out_from + (size_t)put;
    }
    return true;
}

static void release_held(struct wf_terminal *t) {
    if (!t->held)
        return;
    t->held = false;
    t->out[0] = '\r';
    t->out_from = 0;
    t->out_to = 1;
}

enum wf_relayed wf_relay_output(struct wf_terminal *t) {
    for (int round = 0; round < ROUNDS; round++) {
        if (!write_pending(t))
            return WF_RELAYED_BLOCKED;
        ssize_t got = t->master < 0 ? 0 : read(t->master, t->out, WF_RELAY_ROOM);
        if (got <= 0) {
            bool end = t->master < 0 || (got < 0 && errno == EIO);
            if (got < 0 && errno == EINTR)
                continue;
            release_held(t);
            return !write_pending(t) ? WF_RELAYED_BLOCKED : end ? WF_RELAYED_END : WF_RELAYED_ALL;
        }
        if (t->wait_ms > WAIT_MS) /* who has said something may be waiting for an answer */
            wf_relay_look_again(t, WAIT_MS);
        if (t->out[0] != 0 || got == 1) {
            if ((t->out[0] & FLUSHED_INPUT) && t->foreground && !t->flushed)
                ioctl(t->real, WF_TTY_FLUSH, INPUT_QUEUE);
            if (t->out[0] & FLUSHED_INPUT)
                t->flushed = false;
            continue;
        }
        if (t->slave >= 0)
            wf_modes_follow_early(t);
        t->out_from = 1;
        t->out_to = (size_t)got;
        if (both_add_returns(t))
            take_returns_away(t);
        else if (t->held) {
            t->held = false;
            t->out[--t->out_from] = '\r';
        }
    }
    return WF_RELAYED_MORE;
}

/* Input, key by key. */

/* The keys that make signals do so in the program's terminal; the rest of the caller's group, in a
 * pipeline, gets them from here. We do as well, and know them by their sender. */
static void signal_others(struct wf_terminal *t, uint8_t key) {
    static const struct {
        int key, signal;
    } keys[] = { { WF_KEY_INTERRUPT, SIGINT },
                 { WF_KEY_QUIT, SIGQUIT },
                 { WF_KEY_SUSPEND, SIGTSTP } };
    bool literal = t->literal;
    t->literal = !literal && (t->modes.local & WF_LOCAL_EXTENDED) && key != 0 &&
                 key == t->modes.key[WF_KEY_LITERAL] && (t->modes.local & WF_LOCAL_CANONICAL);
    if (literal || !(t->modes.local & WF_LOCAL_SIGNALS) || key == 0)
        return;
    for (int i = 0; i < 3; i++)
        if (t->modes.key[keys[i].key] == key)
            syscall(SYS_kill, 0, keys[i].signal);
}

static void write_keys(struct wf_terminal *t) {
    while (t->in_from < t->in_to) {
        ssize_t put = write(t->master, t->in + t->in_from, t->in_to - t->in_from);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return; /* full: when there is room again */
        t->in_from += (size_t)put;
    }
}

static void relay_keys(struct wf_terminal *t) {
    if (t->in_from == t->in_to) {
        ssize_t got = read(t->real, t->in, IN_ROOM);
        if (got <= 0)
            return;
        t->in_from = 0;
        t->in_to = (size_t)got;
        for (ssize_t i = 0; i < got; i++)
            signal_others(t, t->in[i]);
    }
    write_keys(t);
}

/* Input, line by line. The caller's terminal has echoed and edited the line: the program's must do
 * neither. Keys that would mean something get the one that takes their meaning away before them. */
static size_t take_meanings_away(const struct wf_terminal *t, const uint8_t *line, size_t size,
                                 uint8_t *ret) {
    uint8_t literal = t->modes.key[WF_KEY_LITERAL], end = t->modes.key[WF_KEY_END];
    bool can = (t->modes.local & WF_LOCAL_EXTENDED) && literal != 0;
    size_t to = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = line[i];
        if (can && ((c < 32 && c != '\n' && c != '\t') || c == 127))
            ret[to++] = literal;
        ret[to++] = c;
    }
    if ((size == 0 || line[size - 1] != '\n') && end != 0)
        ret[to++] = end; /* which is how it ended there as well */
    return to;
}

static bool is_readable(int fd) {
    struct pollfd item = { .fd = fd, .events = POLLIN };
    return poll(&item, 1, 0) > 0 && (item.revents & POLLIN);
}

static void relay_line(struct wf_terminal *t) {
    uint8_t line[IN_ROOM / 2];
    ssize_t got = read(t->real, line, sizeof line);
    if (got < 0)
        return;
    struct wf_modes quiet = t->modes;
    quiet.local &= ~(WF_LOCAL_ECHO | WF_LOCAL_ECHO_NEWLINE);
    bool echoes = quiet.local != t->modes.local && ioctl(t->slave, WF_TTY_SET_MODES, &quiet) == 0;
    t->in_from = 0;
    t->in_to = take_meanings_away(t, line, (size_t)got, t->in);
    write_keys(t);
    is_readable(
        t->slave); /* makes the kernel take in what was written, if nobody has read it already */
    if (echoes)
        ioctl(t->slave, WF_TTY_SET_MODES, &t->modes);
}

/* There is a line, and nobody who waits for it: that somebody does is no event of the kernel's. */
void wf_relay_look_again(struct wf_terminal *t, int after_ms) {
    t->wait_ms = after_ms;
    t->look_us = after_ms > 0 ? wf_now_us() + after_ms * 1000ll : 0;
}

void wf_relay_input(struct wf_terminal *t) {
    if (t->in_from < t->in_to)
        write_keys(t);
    else if (t->raw)
        relay_keys(t);
    else if (!is_readable(t->real))
        wf_relay_look_again(t, 0);
    else if (!is_readable(t->slave) && (t->run->looked || wf_readers_wait(t))) {
        relay_line(t);
        wf_relay_look_again(t, 0);
    } else
        wf_relay_look_again(t, t->wait_ms == 0            ? WAIT_MS
                               : t->wait_ms < WAIT_MAX_MS ? 2 * t->wait_ms
                                                          : WAIT_MAX_MS);
}

void wf_relay_give_back(struct wf_terminal *t) {
    struct wf_modes modes, quiet;
    uint8_t *keys = t->in;
    size_t size = t->in_to - t->in_from;
    ssize_t got = 0;
    if (ioctl(t->slave, WF_TTY_MODES, &modes) < 0)
        return;
    memmove(keys + IN_ROOM - size, t->in + t->in_from, size);
    /* What is not yet a whole line can be read as well then. */
    quiet = modes;
    quiet.local &= ~(WF_LOCAL_CANONICAL | WF_LOCAL_ECHO | WF_LOCAL_ECHO_NEWLINE);
    quiet.key[WF_KEY_LEAST] = quiet.key[WF_KEY_TIME] = 0;
    if (ioctl(t->slave, WF_TTY_SET_MODES, &quiet) == 0) {
        if (is_readable(t->slave))
            got = read(t->slave, keys, IN_ROOM - size);
        ioctl(t->slave, WF_TTY_SET_MODES, &modes);
    }
    got = got < 0 ? 0 : got;
    memmove(keys + got, keys + IN_ROOM - size, size);
    size += (size_t)got;
    if (size == 0)
        return;
    quiet = modes;
    quiet.local &= ~(WF_LOCAL_ECHO | WF_LOCAL_ECHO_NEWLINE); /* it has been seen already */
    ioctl(t->real, WF_TTY_SET_MODES, &quiet);
    for (size_t i = 0; i < size; i++)
        if (ioctl(t->real, WF_TTY_TYPE, keys + i) < 0)
            break;
    ioctl(t->real, WF_TTY_SET_MODES, &modes);
}
