/* romana-cni and romana-ipam: what a container runtime starts. Passes everything on to the agent of
 * this node, as plugin.py does, which documents the protocol: a static program for nodes without
 * Python, and sooner done. No dependency beyond libc, no allocation: all memory is static.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/romana/cni.sock"
#define SECONDS 60 /* the agent answers within its own, shorter deadlines */
#define DEEPEST 200
#define VERSIONS "[\"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]"

enum { NO_PERMISSION = 5, UNREADABLE = 6, TRY_AGAIN = 11, NOT_AVAILABLE = 50 };

static const char *const names[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS",
                                    "CNI_IFNAME",  "CNI_ARGS",        "CNI_PATH"};
static char config[(1 << 20) + 1], text[4096], where[sizeof(((struct sockaddr_un *)0)->sun_path)];
static size_t length;

/* A value in the configuration, as written: from `at`, `size` bytes; NULL: there is none. */
struct span { const char *at; size_t size; };
static struct span version, own_socket, delegated_socket;

static int put(const char *at, size_t size)
{
    while (size > 0) {
        ssize_t done = write(1, at, size);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return 1;
        at += done, size -= (size_t)done;
    }
    return 0;
}

/* The error object of the specification on standard output; returns the exit status. */
__attribute__((format(printf, 2, 3))) static int failed(int code, const char *format, ...)
{
    static char message[2 * sizeof text], answer[3 * sizeof text];
    size_t end = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (const char *c = text; *c && end + 2 < sizeof message; c++) {
        if (*c == '"' || *c == '\\') message[end++] = '\\';
        message[end++] = (unsigned char)*c < ' ' ? ' ' : *c;
    }
    int size = snprintf(answer, sizeof answer, "{\"cniVersion\": %.*s, \"code\": %d, \"msg\": \"%s\"}\n",
                        version.at && version.size < 64 ? (int)version.size : 7,
                        version.at && version.size < 64 ? version.at : "\"1.1.0\"", code, message);
    put(answer, (size_t)size);
    return 1;
}

/* --- JSON: is it a whole object, and where are the three values that matter? ---------------------- */

static const char *blank(const char *c)
{
    return c + strspn(c, " \t\r\n");
}

static const char *string(const char *c) /* behind a string; NULL: it is none */
{
    if (*c++ != '"') return NULL;
    for (; *c != '"'; c++) {
        if ((unsigned char)*c < ' ') return NULL;
        if (*c != '\\') continue;
        if (*++c == 'u') {
            if (strspn(c + 1, "0123456789abcdefABCDEF") < 4) return NULL;
            c += 4;
        } else if (!*c || !strchr("\"\\/bfnrt", *c)) return NULL;
    }
    return c + 1;
}

static const char *number(const char *c)
{
    const char *digits = c += *c == '-';
    c += strspn(c, "0123456789");
    if (c == digits || (*digits == '0' && c > digits + 1)) return NULL;
    if (*c == '.') {
        size_t some = strspn(++c, "0123456789");
        if (some == 0) return NULL;
        c += some;
    }
    if (*c == 'e' || *c == 'E') {
        c += 1 + (c[1] == '+' || c[1] == '-');
        size_t some = strspn(c, "0123456789");
        if (some == 0) return NULL;
        c += some;
    }
    return c;
}

static int is(const char *key, size_t size, const char *name)
{
    return size == strlen(name) + 2 && memcmp(key + 1, name, size - 2) == 0;
}

/* Behind the value at `c`, or NULL. `depth` 1 is the configuration itself, `inside` its "ipam". */
static const char *value(const char *c, int depth, int inside)
{
    if (depth > DEEPEST) return NULL;
    if (*c == '"') return string(c);
    if (*c == '{' || *c == '[') {
        char close = *c == '{' ? '}' : ']';
        if (*(c = blank(c + 1)) == close) return c + 1;
        for (;;) {
            const char *key = c;
            size_t size = 0;
            if (close == '}') {
                if (!(c = string(c))) return NULL;
                size = (size_t)(c - key);
                if (*(c = blank(c)) != ':') return NULL;
                c = blank(c + 1);
            }
            const char *begin = c;
            int ipam = depth == 1 && close == '}' && is(key, size, "ipam");
            if (!(c = value(c, depth + 1, ipam))) return NULL;
            struct span found = {begin, (size_t)(c - begin)};
            if (depth == 1 && is(key, size, "cniVersion")) version = found;
            if (depth == 1 && is(key, size, "socket")) own_socket = found;
            if (depth == 2 && inside && is(key, size, "socket")) delegated_socket = found;
            if (*(c = blank(c)) == close) return c + 1;
            if (*c != ',') return NULL;
            c = blank(c + 1);
        }
    }
    if (!strncmp(c, "true", 4) || !strncmp(c, "null", 4)) return c + 4;
    if (!strncmp(c, "false", 5)) return c + 5;
    return number(c);
}

static int is_utf8(void)
{
    for (const unsigned char *c = (const unsigned char *)config; *c; c++) {
        int more = *c < 0x80 ? 0 : *c >= 0xc2 && *c < 0xe0 ? 1 : (*c & 0xf0) == 0xe0 ? 2 : *c >= 0xf0 && *c < 0xf5 ? 3 : -1;
        if (more < 0) return 0;
        if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xf0 && c[1] < 0x90)) return 0; /* longer than it need be */
        if ((*c == 0xed && c[1] > 0x9f) || (*c == 0xf4 && c[1] > 0x8f)) return 0; /* no character */
        while (more-- > 0)
            if ((*++c & 0xc0) != 0x80) return 0;
    }
    return 1;
}

static int is_whole_object(void)
{
    const char *c = blank(config);
    return strlen(config) == length && is_utf8() && *c == '{' && (c = value(c, 1, 0)) && *blank(c) == 0;
}

/* Copies a path out of its string into `where`; an absent, empty or strange one stays the default. */
static int set_path(struct span from)
{
    size_t end = 0;
    if (!from.at || from.size <= 2 || *from.at != '"') return 0;
    for (const char *c = from.at + 1; c < from.at + from.size - 1; c++) {
        if (*c == '\\' && *++c != '"' && *c != '\\' && *c != '/') return -1;
        if (end + 1 >= sizeof where) return -1;
        where[end++] = *c;
    }
    where[end] = 0;
    return 0;
}

/* --- the agent ------------------------------------------------------------------------------------ */

static int tell(int channel, const char *at, size_t size)
{
    while (size > 0) {
        ssize_t done = send(channel, at, size, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return -1;
        at += done, size -= (size_t)done;
    }
    return 0;
}

static int ask(int channel, const char *plugin)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = SECONDS};
    memcpy(address.sun_path, where, sizeof where);
    setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(channel, (struct sockaddr *)&address, sizeof address)) return -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *set = getenv(names[i]);
        if (set && (tell(channel, names[i], strlen(names[i])) || tell(channel, "=", 1) ||
                    tell(channel, set, strlen(set) + 1)))
            return -1;
    }
    if (plugin && (tell(channel, "ROMANA_PLUGIN=", 14) || tell(channel, plugin, strlen(plugin) + 1)))
        return -1;
    if (tell(channel, "", 1) || tell(channel, config, length)) return -1;
    return shutdown(channel, SHUT_WR);
}

static int unreachable(int code)
{
    if (errno == EACCES || errno == EPERM)
        return failed(NO_PERMISSION, "no permission to use %s: run as the agent's user", where);
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return failed(code, "the agent at %s does not answer", where);
    return failed(code, "the agent cannot be reached at %s: %s", where, strerror(errno));
}

int main(int count, char **arguments)
{
    const char *command = getenv("CNI_COMMAND"), *slash = count > 0 ? strrchr(arguments[0], '/') : NULL;
    const char *plugin = count > 0 ? (slash ? slash + 1 : arguments[0]) : "";
    int delegated = strcmp(plugin, "romana-ipam") == 0;
    int unavailable = command && !strcmp(command, "STATUS") ? NOT_AVAILABLE : TRY_AGAIN;
    static char answer[65536];
    int printed = 0; /* then an error object would be a second answer */
    ssize_t size;

    signal(SIGPIPE, SIG_IGN);
    strcpy(where, DEFAULT_SOCKET);
    while ((size = read(0, config + length, sizeof config - 1 - length)) != 0) {
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return failed(UNREADABLE, "standard input cannot be read: %s", strerror(errno));
        if ((length += (size_t)size) == sizeof config - 1)
            return failed(UNREADABLE, "the network configuration is larger than 1 MiB");
    }
    int typed = length == 0 && command && !strcmp(command, "VERSION");
    if (!typed && !is_whole_object())
        return failed(UNREADABLE, "the network configuration is no whole JSON object");
    if (command && !strcmp(command, "VERSION")) {
        size = snprintf(answer, sizeof answer, "{\"cniVersion\": %.*s, \"supportedVersions\": " VERSIONS "}\n",
                        version.at && version.size < 64 ? (int)version.size : 7,
                        version.at && version.size < 64 ? version.at : "\"1.1.0\"");
        return put(answer, (size_t)size);
    }
    if (set_path(delegated && delegated_socket.at ? delegated_socket : own_socket))
        return failed(UNREADABLE, "socket is no path that a socket can have");

    int channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (channel < 0 || ask(channel, delegated ? plugin : NULL)) return unreachable(unavailable);
    size_t had = 0; /* of the status and the newline behind it, which come first */
    int status = 1;
    while ((size = recv(channel, answer + had, sizeof answer - had, 0)) != 0) {
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return printed ? 1 : unreachable(unavailable);
        if (!printed) {
            if ((had += (size_t)size) < 2) continue;
            if (answer[1] != '\n') break;
            status = answer[0] != '0';
            printed = 1;
            if (put(answer + 2, had - 2)) return 1;
            had = 0;
        } else if (put(answer, (size_t)size)) return 1;
    }
    return printed ? status : failed(unavailable, "the agent at %s ended before it answered", where);
}
