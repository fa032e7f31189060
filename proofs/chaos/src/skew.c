/* A wall clock that is off by as many milliseconds as the mapped file SKEW_FILE says: preloaded into an agent by chaos.
 * Clocks that only measure how long something takes are left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none = 0;
static const volatile int64_t *skew_ms = &none;

__attribute__((constructor)) static void open_skew(void) {
  const char *path = getenv("SKEW_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *at = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (at != MAP_FAILED) skew_ms = at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
  int64_t ms = *skew_ms;
  now->tv_sec += ms / 1000;
  now->tv_nsec += (ms % 1000) * 1000000;
  if (now->tv_nsec < 0) { now->tv_nsec += 1000000000; now->tv_sec -= 1; }
  if (now->tv_nsec >= 1000000000) { now->tv_nsec -= 1000000000; now->tv_sec += 1; }
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec fine;
  int failed = clock_gettime(CLOCK_REALTIME, &fine);
  if (!failed) { now->tv_sec = fine.tv_sec; now->tv_usec = fine.tv_nsec / 1000; }
  return failed;
}

time_t time(time_t *at) {
  struct timespec fine;
  if (clock_gettime(CLOCK_REALTIME, &fine)) return -1;
  if (at) *at = fine.tv_sec;
  return fine.tv_sec;
}
