/* Event sets: Xids that Python pushes into the ring of the state file, waited for here. */
#include <stdlib.h>

#include "simulator.h"

#define LOOK_EVERY_MS 5u

struct event_set {
  struct event_set *next;
  unsigned users; /* who waits or registers; freed by the last when `is_freed` */
  bool is_freed;
  uint64_t masks[GPUS_MAX];
  uint64_t position; /* Xids of the ring already looked at */
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct event_set *sets;
static unsigned set_count;

/* Only a set that is in the list is one: a freed or made-up pointer is refused and never followed. */
static struct event_set *use(const struct event_set *asked) {
  pthread_mutex_lock(&guard);
  struct event_set *found = sets;
  while (found != NULL && found != asked) found = found->next;
  if (found != NULL) found->users++;
  pthread_mutex_unlock(&guard);
  return found;
}

static void done_with(struct event_set *set) {
  pthread_mutex_lock(&guard);
  bool is_last = --set->users == 0 && set->is_freed;
  pthread_mutex_unlock(&guard);
  if (is_last) free(set);
}

EXPORT nvml_return nvmlEventSetCreate(struct event_set **to) {
  if (to == NULL) return NVML_INVALID_ARGUMENT;
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  struct event_set *made = calloc(1, sizeof *made);
  if (made != NULL) {
    made->position = attachment->host->xid_count;
    pthread_mutex_lock(&guard);
    made->next = sets;
    sets = made;
    set_count++;
    pthread_mutex_unlock(&guard);
    *to = made;
  }
  let_go(attachment);
  return made == NULL ? NVML_MEMORY : NVML_SUCCESS;
}

EXPORT nvml_return nvmlEventSetFree(struct event_set *asked) {
  pthread_mutex_lock(&guard);
  struct event_set **place = &sets;
  while (*place != NULL && *place != asked) place = &(*place)->next;
  struct event_set *found = *place;
  bool is_last = false;
  if (found != NULL) {
    *place = found->next;
    set_count--;
    found->is_freed = true;
    is_last = found->users == 0;
  }
  pthread_mutex_unlock(&guard);
  if (is_last) free(found);
  return found == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS;
}

EXPORT nvml_return nvmlDeviceGetSupportedEventTypes(nvml_device device, unsigned long long *types) {
  struct passage passage;
  nvml_return code = enter(device, CALL_EVENT_TYPES, &passage);
  if (code != NVML_SUCCESS) return code;
  if (types != NULL) *types = EVENTS_SUPPORTED;
  return leave(&passage, types == NULL ? NVML_INVALID_ARGUMENT : NVML_SUCCESS);
}

EXPORT nvml_return nvmlDeviceRegisterEvents(nvml_device device, unsigned long long types, struct event_set *asked) {
  struct passage passage;
  nvml_return code = enter(device, CALL_REGISTER_EVENTS, &passage);
  if (code != NVML_SUCCESS) return code;
  struct event_set *set = use(asked);
  if (set == NULL) return leave(&passage, NVML_INVALID_ARGUMENT);
  if ((types & ~(unsigned long long)EVENTS_SUPPORTED) != 0) {
    code = NVML_NOT_SUPPORTED;
  } else {
    pthread_mutex_lock(&guard);
    set->masks[passage.index] |= types;
    pthread_mutex_unlock(&guard);
  }
  done_with(set);
  return leave(&passage, code);
}

static bool next_xid(struct event_set *set, const struct attachment *attachment, struct nvml_event *event) {
  const struct host_state *host = attachment->host;
  uint64_t pushed = __atomic_load_n(&host->xid_count, __ATOMIC_ACQUIRE);
  bool is_found = false;
  pthread_mutex_lock(&guard);
  if (pushed - set->position > XIDS_MAX) set->position = pushed - XIDS_MAX;
  while (!is_found && set->position < pushed) {
    const struct xid_state *xid = &host->xids[set->position++ % XIDS_MAX];
    if (xid->gpu >= host->gpu_count || (set->masks[xid->gpu] & EVENT_XID) == 0) continue;
    *event = (struct nvml_event){handle_of(attachment, xid->gpu), EVENT_XID, xid->xid, NOT_A_VALUE, NOT_A_VALUE};
    is_found = true;
  }
  pthread_mutex_unlock(&guard);
  return is_found;
}

/* A lost GPU ends the wait of everyone who registered it, and again each time it is waited for. */
static nvml_return trouble(const struct event_set *set, struct attachment *attachment) {
  for (uint32_t index = 0; index < attachment->host->gpu_count; index++) {
    if (set->masks[index] == 0) continue;
    nvml_return code = meet_faults(attachment, &attachment->host->gpus[index], CALL_EVENT_WAIT);
    if (code != NVML_SUCCESS) return code;
  }
  return NVML_SUCCESS;
}

static nvml_return wait_for(struct event_set *set, struct attachment *attachment, struct nvml_event *event,
                            uint32_t timeout_ms) {
  uint64_t until_us = now_us() + (uint64_t)timeout_ms * 1000u;
  for (;;) {
    if (next_xid(set, attachment, event)) return NVML_SUCCESS;
    nvml_return code = trouble(set, attachment);
    /* The Xid of a GPU that gets lost is told before the loss, also when both came between the two looks. */
    if (code != NVML_SUCCESS) return next_xid(set, attachment, event) ? NVML_SUCCESS : code;
    if (atomic_load(&attachment->is_shut_down)) return NVML_UNINITIALIZED;
    uint64_t at_us = now_us();
    if (at_us >= until_us) return NVML_TIMEOUT;
    uint64_t left_ms = (until_us - at_us + 999u) / 1000u;
    sleep_ms(left_ms < LOOK_EVERY_MS ? (uint32_t)left_ms : LOOK_EVERY_MS);
  }
}

EXPORT nvml_return nvmlEventSetWait_v2(struct event_set *asked, struct nvml_event *event, unsigned timeout_ms) {
  if (event == NULL) return NVML_INVALID_ARGUMENT;
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  struct event_set *set = use(asked);
  nvml_return code = set == NULL ? NVML_INVALID_ARGUMENT : wait_for(set, attachment, event, timeout_ms);
  if (set != NULL) done_with(set);
  let_go(attachment);
  return code;
}

/* For tests of leaks: event sets of this process that were not freed. */
EXPORT unsigned hcp_nvml_event_sets_open(void) {
  pthread_mutex_lock(&guard);
  unsigned open_count = set_count;
  pthread_mutex_unlock(&guard);
  return open_count;
}
