/* What the parts of the simulator share: the mapped host, the gate that every call passes, and its faults. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "abi.h"
#include "layout.h"

/* One mapping of one state file. A call in flight holds it, so that nvmlShutdown never pulls the memory from under a
   slow one; the last to let go unmaps. */
struct attachment {
  struct host_state *host;
  int file;
  atomic_uint holders;
  atomic_bool is_shut_down;
};

/* A call under way on one GPU. */
struct passage {
  struct attachment *attachment;
  struct gpu_state *gpu;
  uint32_t index;
};

struct attachment *hold(void);
void let_go(struct attachment *attachment);

nvml_return enter(nvml_device device, uint32_t call, struct passage *passage);
nvml_return leave(struct passage *passage, nvml_return code);
nvml_return meet_faults(struct attachment *attachment, struct gpu_state *gpu, uint32_t call);
bool is_supported(const struct gpu_state *gpu, uint32_t call);

/* Writers of several fields exclude each other, also across processes; a killed writer lets go by dying. */
void lock_state(struct attachment *attachment);
void unlock_state(struct attachment *attachment);

uint64_t now_us(void);
void sleep_ms(uint32_t milliseconds);
nvml_device handle_of(const struct attachment *attachment, uint32_t index);

uint32_t draw_mw(const struct gpu_state *gpu);
uint32_t enforced_mw(const struct gpu_state *gpu);
uint32_t average_mw(const struct gpu_state *gpu, uint64_t at_us);
uint64_t energy_mj(const struct gpu_state *gpu, uint64_t at_us);
uint32_t utilization_percent(const struct gpu_state *gpu, uint64_t at_us);
