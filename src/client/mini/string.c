/* Memory and strings. Compiled so that the compiler does not turn these loops into calls of
 * themselves. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Eight bytes at a time where it matters: requests carry up to megabytes. */
typedef uint64_t __attribute__((may_alias, aligned(1))) word;

/* Upwards, so that `to` may lie before `from` and overlap with it. */
static void copy(unsigned char *to, const unsigned char *from, size_t size) {
    for (; size >= sizeof(word); size -= sizeof(word), to += sizeof(word), from += sizeof(word))
        *(word *)to = *(const word *)from;
    while (size--)
        *to++ = *from++;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    copy(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= size) { /* also when `to` lies before `from` */
        copy(t, f, size);
    } else {
        while (size--)
            t[size] = f[size];
    }
    return to;
}

void *memset(void *to, int byte, size_t size) {
    unsigned char *t = to;
    word pattern = 0x0101010101010101u * (unsigned char)byte;
    for (; size >= sizeof(word); size -= sizeof(word), t += sizeof(word))
        *(word *)t = pattern;
    while (size--)
        *t++ = (unsigned char)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const unsigned char *x = a, *y = b;
    for (; size--; x++, y++) {
        if (*x != *y)
            return *x - *y;
    }
    return 0;
}

void *memchr(const void *data, int byte, size_t size) {
    for (const unsigned char *p = data; size--; p++) {
        if (*p == (unsigned char)byte)
            return (void *)(uintptr_t)p;
    }
    return NULL;
}

void *memrchr(const void *data, int byte, size_t size) {
    for (const unsigned char *p = data; size--;) {
        if (p[size] == (unsigned char)byte)
            return (void *)(uintptr_t)(p + size);
    }
    return NULL;
}

void *memmem(const void *data, size_t size, const void *what, size_t length) {
    for (const unsigned char *p = data; size >= length; p++, size--) {
        if (memcmp(p, what, length) == 0)
            return (void *)(uintptr_t)p;
    }
    return NULL;
}

size_t strlen(const char *s) {
    const char *end = s;
    while (*end)
        end++;
    return (size_t)(end - s);
}

size_t strnlen(const char *s, size_t max) {
    size_t size = 0;
    while (size < max && s[size])
        size++;
    return size;
}

int strncmp(const char *a, const char *b, size_t size) {
    for (; size--; a++, b++) {
        if (*a != *b || !*a)
            return (unsigned char)*a - (unsigned char)*b;
    }
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strchrnul(const char *s, int c) {
    while (*s && *s != (char)c)
        s++;
    return (char *)(uintptr_t)s;
}

char *strchr(const char *s, int c) {
    char *found = strchrnul(s, c);
    return *found == (char)c ? found : NULL;
}

char *strrchr(const char *s, int c) { return memrchr(s, c, strlen(s) + 1); }

char *strstr(const char *s, const char *what) { return memmem(s, strlen(s), what, strlen(what)); }

size_t strspn(const char *s, const char *accept) {
    size_t size = 0;
    while (s[size] && strchr(accept, s[size]))
        size++;
    return size;
}

size_t strcspn(const char *s, const char *reject) {
    size_t size = 0;
    while (s[size] && !strchr(reject, s[size]))
        size++;
    return size;
}

char *stpcpy(char *restrict to, const char *restrict from) {
    size_t size = strlen(from);
    memcpy(to, from, size + 1);
    return to + size;
}

char *strcpy(char *restrict to, const char *restrict from) {
    stpcpy(to, from);
    return to;
}
