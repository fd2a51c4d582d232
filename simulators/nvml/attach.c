/* Opening and closing the state file, nvmlInit and nvmlShutdown. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "simulator.h"

#define STATE_VARIABLE "HCP_NVML_STATE"

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t writers = PTHREAD_MUTEX_INITIALIZER;
static struct attachment *current;
static unsigned init_count;

static nvml_return attach(void) {
  const char *path = getenv(STATE_VARIABLE);
  if (path == NULL) return NVML_DRIVER_NOT_LOADED;
  int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return errno == EACCES ? NVML_NO_PERMISSION : NVML_DRIVER_NOT_LOADED;
  struct stat found;
  if (fstat(file, &found) != 0 || found.st_size != (off_t)sizeof(struct host_state)) {
    close(file);
    return NVML_LIB_RM_VERSION_MISMATCH;
  }
  void *mapped = mmap(NULL, sizeof(struct host_state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  struct attachment *made = malloc(sizeof *made);
  if (mapped == MAP_FAILED || made == NULL) {
    if (mapped != MAP_FAILED) munmap(mapped, sizeof(struct host_state));
    free(made);
    close(file);
    return NVML_MEMORY;
  }
  *made = (struct attachment){.host = mapped, .file = file, .holders = 1, .is_shut_down = false};
  nvml_return code = NVML_SUCCESS;
  if (made->host->layout_word != LAYOUT_WORD || made->host->gpu_count > GPUS_MAX) code = NVML_LIB_RM_VERSION_MISMATCH;
  else if (made->host->init_code != 0) code = (nvml_return)made->host->init_code;
  if (code != NVML_SUCCESS) {
    let_go(made);
    return code;
  }
  current = made;
  return NVML_SUCCESS;
}

struct attachment *hold(void) {
  pthread_mutex_lock(&guard);
  struct attachment *held = current;
  if (held != NULL) atomic_fetch_add(&held->holders, 1);
  pthread_mutex_unlock(&guard);
  return held;
}

void let_go(struct attachment *attachment) {
  if (atomic_fetch_sub(&attachment->holders, 1) != 1) return;
  munmap(attachment->host, sizeof(struct host_state));
  close(attachment->file);
  free(attachment);
}

void lock_state(struct attachment *attachment) {
  pthread_mutex_lock(&writers);
  while (flock(attachment->file, LOCK_EX) != 0 && errno == EINTR) {
  }
}

void unlock_state(struct attachment *attachment) {
  flock(attachment->file, LOCK_UN);
  pthread_mutex_unlock(&writers);
}

uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void sleep_ms(uint32_t milliseconds) {
  struct timespec wanted = {.tv_sec = milliseconds / 1000, .tv_nsec = (long)(milliseconds % 1000) * 1000000L};
  while (nanosleep(&wanted, &wanted) != 0 && errno == EINTR) {
  }
}

EXPORT nvml_return nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  pthread_mutex_lock(&guard);
  nvml_return code = current == NULL ? attach() : NVML_SUCCESS;
  if (code == NVML_SUCCESS) init_count++;
  pthread_mutex_unlock(&guard);
  return code;
}

EXPORT nvml_return nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
EXPORT nvml_return nvmlInit(void) { return nvmlInitWithFlags(0); }

EXPORT nvml_return nvmlShutdown(void) {
  struct attachment *last = NULL;
  pthread_mutex_lock(&guard);
  nvml_return code = init_count == 0 ? NVML_UNINITIALIZED : NVML_SUCCESS;
  if (code == NVML_SUCCESS && --init_count == 0) {
    last = current;
    current = NULL;
    atomic_store(&last->is_shut_down, true);
  }
  pthread_mutex_unlock(&guard);
  if (last != NULL) let_go(last);
  return code;
}

/* For tests of leaks: how often nvmlInit was not yet answered by nvmlShutdown in this process. */
EXPORT unsigned hcp_nvml_inits_open(void) {
  pthread_mutex_lock(&guard);
  unsigned open_count = init_count;
  pthread_mutex_unlock(&guard);
  return open_count;
}
