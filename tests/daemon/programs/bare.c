// A FastCGI program without a library, and the ways in which programs handle their connection.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *way = "";
static unsigned char in[1 << 20];
static size_t have;
static char page[64];

static int goes_by(const char *name) { return !strcmp(way, name); }
static int is_page(const char *name) { return strstr(page, name) != NULL; }
static void nothing(int number) { (void)number; }

static ssize_t read_some(int fd) {
  void *space = in + have;
  const size_t room = sizeof in - have;
  if (goes_by("fortify")) {
    extern ssize_t __read_chk(int, void *, size_t, size_t);
    return __read_chk(fd, space, room, room);
  }
  if (goes_by("message")) {
    struct iovec part = {space, room};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return recvmsg(fd, &message, 0);
  }
  return read(fd, space, room);
}

// Reads until nothing more is there, as who waits for events does.
static ssize_t fill(int fd) {
  ssize_t all = 0;
  struct pollfd polled = {fd, POLLIN, 0};
  if (goes_by("events"))
    poll(&polled, 1, -1);
  for (;;) {
    const ssize_t count = read_some(fd);
    if (count > 0) {
      have += count;
      all += count;
    }
    if (count <= 0 || !goes_by("events"))
      return all ? all : count;
  }
}

// Takes one request in. Returns whether there is one.
static int take(int fd, int *keep) {
  size_t at = 0;
  page[0] = 0;
  for (;;) {
    while (have - at >= 8) {
      const unsigned char *record = in + at, *body = record + 8;
      const size_t length = record[4] * 256 + record[5], all = 8 + length + record[6];
      if (have - at < all)
        break;
      if (record[1] == 1)
        *keep = body[2] & 1;
      const unsigned char *uri = length ? memmem(body, length, "DOCUMENT_URI", 12) : NULL;
      if (record[1] == 4 && uri) {
        const size_t left = body + length - uri - 12, taken = left < 40 ? left : 40;
        memcpy(page, uri + 12, taken);
        page[taken] = 0;
      }
      at += all;
      if (record[1] == 5 && length == 0) {
        memmove(in, in + at, have - at);
        have -= at;
        return 1;
      }
    }
    if (fill(fd) <= 0)
      return 0;
  }
}

static void answer(int fd) {
  char bytes[512];
  const int length = snprintf(bytes + 8, 256, "Content-Type: text/plain\r\n\r\n%d", getpid());
  memcpy(bytes, (char[]){1, 6, 0, 1, 0, (char)length, 0, 0}, 8);
  const char end[] = {1, 6, 0, 1, 0, 0, 0, 0, 1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  memcpy(bytes + 8 + length, end, sizeof end);
  const size_t all = 8 + length + sizeof end;
  if (goes_by("message")) {
    struct iovec parts[] = {{bytes, 8}, {bytes + 8, all - 8}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    sendmsg(fd, &message, 0);
  } else if (write(fd, bytes, all) < 0) {
    perror("write");
  }
}

// What a program does at a request. Returns whether it goes on with the connection.
static int serve(int fd) {
  if (is_page("/silent"))
    return 0;
  if (is_page("/exit"))
    exit(3);
  if (is_page("/nothing"))
    write(fd, NULL, 0);
  if (is_page("/sigterm"))
    signal(SIGTERM, nothing);
  if (is_page("/vfork")) {
    const pid_t child = vfork();
    if (!child) {
      for (int other = 255; other > 2; --other)
        close(other);
      execl("/bin/true", "true", (char *)NULL);
      _exit(1);
    }
    waitpid(child, NULL, 0);
  }
  if (is_page("/child") && !fork()) {
    sleep(60);
    _exit(0);
  }
  if (is_page("/stream-of-the-library")) {
    static char big[60000];
    FILE *stream = fdopen(dup(fd), "w");
    const size_t written = fwrite(big, sizeof big, 1, stream);
    fclose(stream);
    if (!written)
      return 0;
  }
  answer(fd);
  return 1;
}

int main(int count, char **words) {
  way = count > 1 ? words[1] : "";
  if (goes_by("ticks")) {
    const struct itimerval often = {{0, 50000}, {0, 50000}};
    signal(SIGALRM, nothing);
    setitimer(ITIMER_REAL, &often, NULL);
  }
  for (;;) {
    int keep = 1;
    const int fd = goes_by("events") ? accept4(0, NULL, NULL, SOCK_NONBLOCK) : accept(0, NULL, NULL);
    if (fd < 0)
      return 0;
    have = 0;
    while (keep && take(fd, &keep) && serve(fd))
      ;
    close(fd);
  }
}
