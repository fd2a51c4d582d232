/* The gate: a handle becomes a GPU, and faults asked for from outside are met before a call is answered. */
#include <string.h>

#include "simulator.h"

#define HANDLE_MARK 0x4E00000000000000ull
#define HANDLE_MARK_MASK 0xFF00000000000000ull
#define SLICE_MS 2u

/* A handle is a number: mark, generation (raised when a lost GPU comes back, so that old handles stay lost), index. */
nvml_device handle_of(const struct attachment *attachment, uint32_t index) {
  uint64_t generation = attachment->host->gpus[index].generation;
  return (nvml_device)(uintptr_t)(HANDLE_MARK | generation << 8 | (index + 1));
}

bool is_supported(const struct gpu_state *gpu, uint32_t call) { return (gpu->unsupported_mask >> call & 1u) == 0; }

static bool concerns(uint32_t asked, uint32_t call) { return asked == CALL_ANY || asked == call; }

/* In slices: a mended GPU lets go those that wait, as a reset would. */
static void dawdle(const struct attachment *attachment, const struct gpu_state *gpu, uint32_t call) {
  uint64_t begun_us = now_us();
  for (;;) {
    uint32_t slow_ms = gpu->slow_ms;
    uint64_t waited_ms = (now_us() - begun_us) / 1000u;
    if (slow_ms == 0 || !concerns(gpu->slow_call, call) || waited_ms >= slow_ms) return;
    if (atomic_load(&attachment->is_shut_down)) return;
    uint32_t left_ms = slow_ms - (uint32_t)waited_ms;
    sleep_ms(left_ms < SLICE_MS ? left_ms : SLICE_MS);
  }
}

static nvml_return take_fault(struct attachment *attachment, struct gpu_state *gpu, uint32_t call) {
  if (gpu->fault_code == 0 || !concerns(gpu->fault_call, call)) return NVML_SUCCESS;
  lock_state(attachment);
  nvml_return code = NVML_SUCCESS;
  if (gpu->fault_left != 0) {
    code = (nvml_return)gpu->fault_code;
    if (gpu->fault_left != FOREVER) gpu->fault_left--;
  }
  unlock_state(attachment);
  return code;
}

nvml_return meet_faults(struct attachment *attachment, struct gpu_state *gpu, uint32_t call) {
  dawdle(attachment, gpu, call);
  if (gpu->is_lost) return NVML_GPU_IS_LOST;
  nvml_return code = take_fault(attachment, gpu, call);
  if (code != NVML_SUCCESS) return code;
  return is_supported(gpu, call) ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

nvml_return enter(nvml_device device, uint32_t call, struct passage *passage) {
  struct attachment *attachment = hold();
  if (attachment == NULL) return NVML_UNINITIALIZED;
  uint64_t handle = (uint64_t)(uintptr_t)device;
  uint32_t index = (uint32_t)(handle & 0xFFu) - 1u;
  if ((handle & HANDLE_MARK_MASK) != HANDLE_MARK || index >= attachment->host->gpu_count) {
    let_go(attachment);
    return NVML_INVALID_ARGUMENT;
  }
  *passage = (struct passage){.attachment = attachment, .gpu = &attachment->host->gpus[index], .index = index};
  nvml_return code = meet_faults(attachment, passage->gpu, call);
  if (code == NVML_SUCCESS && device != handle_of(attachment, index)) code = NVML_GPU_IS_LOST;
  return code == NVML_SUCCESS ? code : leave(passage, code);
}

nvml_return leave(struct passage *passage, nvml_return code) {
  let_go(passage->attachment);
  return code;
}

/* Draw and load: each field is what holds since `changed`; a window of a second slides from what was to what is. */

static uint32_t slid(uint32_t before, uint32_t now, uint64_t changed_us, uint64_t at_us) {
  uint64_t since_us = at_us > changed_us ? at_us - changed_us : 0;
  if (since_us >= WINDOW_US) return now;
  int64_t moved = ((int64_t)now - (int64_t)before) * (int64_t)since_us / (int64_t)WINDOW_US;
  return (uint32_t)((int64_t)before + moved);
}

uint32_t enforced_mw(const struct gpu_state *gpu) {
  uint32_t external_mw = gpu->limit_external_mw;
  return external_mw != 0 && external_mw < gpu->limit_mw ? external_mw : gpu->limit_mw;
}

uint32_t draw_mw(const struct gpu_state *gpu) {
  uint32_t cap_mw = enforced_mw(gpu);
  return gpu->demand_mw < cap_mw ? gpu->demand_mw : cap_mw;
}

uint32_t average_mw(const struct gpu_state *gpu, uint64_t at_us) {
  return slid(gpu->draw_before_mw, draw_mw(gpu), gpu->draw_changed_us, at_us);
}

uint32_t utilization_percent(const struct gpu_state *gpu, uint64_t at_us) {
  return slid(gpu->utilization_before_percent, gpu->utilization_percent, gpu->utilization_changed_us, at_us);
}

uint64_t energy_mj(const struct gpu_state *gpu, uint64_t at_us) {
  uint64_t since_us = at_us > gpu->draw_changed_us ? at_us - gpu->draw_changed_us : 0;
  return gpu->energy_mj + (uint64_t)draw_mw(gpu) * since_us / 1000000u;
}
